"""Near duplicates: how many copies of real faces are found, how often two clips of one person are taken for one, and how fast.

    VIGIL_SHARED_DATA=FOLDER python benchmarks/duplicates.py [--half tune] [--work FOLDER]      appends rows to benchmarks/duplicates.jsonl

FOLDER holds labels.csv with the columns path,label,identity,kind of real clips and photos of faces. Every second person is for tuning
(`--half tune`); the figures that count are of the others, on which nothing was chosen. All media of both halves are ingested as known; then, one change at a
time, the changed copies, by the same `ingest` as everywhere. A copy counts as found when it is marked a duplicate of its own original.
Different clips of one person are compared directly, as if the search had proposed every pair: the clips and photos of
each person, and pieces of one clip that share no frame, a second and more long, each with each and with all that comes
before or after it, and pieces of a second cut so finely that they overlap, each with each that it shares no frame with:
the same camera, clothes and light, so the hardest. Pairs of one person are not independent, so the intervals (Wilson, 95%) are too narrow by an unknown amount.
The `report` half is not wholly unseen: a first rule, clean on 480 pairs, took 12 of 819 pieces of a second for one another there. It was then tightened,
by the pieces of the `tune` half alone, and measured again. The recall of photos was measured before that change, which leaves their bounds as they were.
Finished steps are kept in the work folder and not repeated; those of other code, or of another labels.csv, are measured anew.
"""

import argparse
import csv
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.commands import code_hash  # noqa: E402
from benchmarks.results import is_made_by  # noqa: E402
from media.decode import probe, read_frames  # noqa: E402
from media.synthetic.camera import encode_h264  # noqa: E402
from model.metrics import wilson  # noqa: E402
from pipelines.ingest import ingest  # noqa: E402
from pipelines.lookalike import Recording, likeness, open_recording  # noqa: E402
from pipelines.neighbours import Neighbours  # noqa: E402
from workspace.files import add_row, sha256_file  # noqa: E402
from workspace.manifest import read_manifest  # noqa: E402
from workspace.settings import SourceSettings, load_settings  # noqa: E402

SETTINGS = load_settings(HERE.parent / "params.yaml")
Frames = list[np.ndarray]
MOST_PX = 640  # larger clips are copied at this size at most, which is one more change
PIECES, LEAST_PIECE_SECONDS, GAP_SECONDS = 8, 1.0, 0.2
FINE_SECONDS = 0.3  # from the start of one piece of a second to the next, where they are cut finely
MOST_PHOTOS = 60  # of which copies are made; the first by their hash
VIDEO_CHANGES = (
    "crop+trim", "half+crf35", "mirror+crop", "trim+crf35", "crf35", "half", "mirror", "crop", "trim", "up",
)  # fmt: skip
IMAGE_CHANGES = ("crop+jpeg40", "mirror+crop", "half+crop", "half+jpeg40", "jpeg40", "half", "mirror", "crop", "up")


def changed(frames: Frames, change: str, rng: np.random.Generator) -> tuple[Frames, int]:
    """The frames after a change such as `mirror+crop`, and the quality to write them with (CRF or JPEG)."""
    quality = 26 if len(frames) > 1 else 85
    for one in change.split("+"):
        height, width = frames[0].shape[:2]
        if one in ("half", "up"):
            size = tuple(round(side * (0.5 if one == "half" else 1.5)) for side in (width, height))
            frames = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA if one == "half" else cv2.INTER_LINEAR) for frame in frames]
        elif one == "mirror":
            frames = [frame[:, ::-1] for frame in frames]
        elif one == "crop":  # 5 to 15% off each side, each its own
            left, right, top, bottom = rng.uniform(0.05, 0.15, 4) * (width, width, height, height)
            frames = [frame[round(top) : round(height - bottom), round(left) : round(width - right)] for frame in frames]
        elif one == "trim":  # a half, from anywhere
            start = int(rng.integers(0, len(frames) - len(frames) // 2 + 1))
            frames = frames[start : start + len(frames) // 2]
        else:
            quality = int(one.removeprefix("crf").removeprefix("jpeg"))
    return frames, quality


def clip_of(path: Path) -> tuple[Frames, float]:
    """All frames of a clip at MOST_PX or less, and their rate."""
    info = probe(path)
    scale = min(1.0, MOST_PX / max(info.width, info.height))
    frames = (frame for _, frame in read_frames(path, [(number + 0.25) / info.fps for number in range(info.frames)]))
    return [cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else frame for frame in frames], info.fps


def write_clip(path: Path, frames: Frames, fps: float, crf: int) -> None:
    """Write frames as H.264; an odd row or column goes."""
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    encode_h264(path, [np.ascontiguousarray(frame[:height, :width]) for frame in frames], fps, crf, "veryfast")


def write_copies(data: Path, rows: list[dict[str, str]], change: str, out: Path) -> dict[str, str]:
    """One changed copy of each file in `out`/real; returns the sample id of the original by the copy's name."""
    (out / "real").mkdir(parents=True)
    originals = {}
    for row in rows:
        source, rng = data / row["path"], np.random.default_rng(int(sha256_file(data / row["path"])[:8], 16))
        name = source.stem + (".jpg" if row["kind"] == "photo" else ".mp4")
        if row["kind"] == "photo":
            (picture,), quality = changed([cv2.imread(str(source))], change, rng)
            cv2.imwrite(str(out / "real" / name), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        else:
            frames, fps = clip_of(source)
            made, crf = changed(frames, change, rng)
            write_clip(out / "real" / name, made, fps, crf)
        originals[f"real/{name}"] = sha256_file(source)
    return originals


def recall(data: Path, rows: list[dict[str, str]], change: str, known: Path) -> dict[str, Any]:
    """How many changed copies ingest marks as duplicates of their own originals, in a workspace that knows all originals."""
    with tempfile.TemporaryDirectory() as folder:
        originals = write_copies(data, rows, change, Path(folder) / "copies")
        root = Path(shutil.copytree(known, Path(folder) / "workspace"))
        begun = time.perf_counter()
        ingest(root, SETTINGS, [SourceSettings(name="copies", path=str(Path(folder) / "copies"))], batch="copies")
        seconds = time.perf_counter() - begun
        marked = read_manifest(root / "data" / "raw" / "copies").set_index("path")["duplicate_of"].to_dict()
    missed = sorted(name for name, original in originals.items() if marked[name] != original)
    wrong = sum(marked[name] not in ("", original) for name, original in originals.items())
    return {"n": len(originals), "found": len(originals) - len(missed), "of_another": wrong, "ingest_seconds": round(seconds, 1), "missed": missed}


def pairs_of_one_person(data: Path, rows: list[dict[str, str]], folder: Path) -> Iterator[tuple[str, Recording, Recording]]:
    """Recordings of one person that are not the same: (sort of pair, one, other)."""
    people: dict[tuple[str, str], list[Path]] = {}
    for row in rows:
        if row["identity"]:
            people.setdefault((row["kind"], row["identity"]), []).append(data / row["path"])
    for (kind, _), paths in people.items():
        for one, other in combinations([open_recording(path) for path in paths], 2):
            yield f"{kind}s of one person", one, other
    for row in (row for row in rows if row["kind"] != "photo"):
        frames, fps = clip_of(data / row["path"])
        gap = round(GAP_SECONDS * fps)
        length = max(round(LEAST_PIECE_SECONDS * fps), (len(frames) - (PIECES - 1) * gap) // PIECES)
        starts = range(0, len(frames) - length + 1, length + gap)

        def opened_as(piece: Frames, change: str, fps: float = fps) -> Recording:
            made, crf = changed(piece, change, np.random.default_rng(0))
            write_clip(folder / "piece.mp4", made, fps, crf)
            return open_recording(folder / "piece.mp4")

        opened = [opened_as(frames[start : start + length], change) for start in starts for change in ("crf23", "half+crf35")]
        for number, start in enumerate(starts):
            for rest in (frames[: max(0, start - gap)], frames[start + length + gap :]):
                if len(rest) > length + gap:
                    yield "a piece and all that comes before or after it", opened[2 * number], opened_as(rest, "crf23")
        for (first, one), (second, other) in combinations(enumerate(opened), 2):
            if first // 2 != second // 2 and not (first % 2 and second % 2):
                yield ("pieces of one clip" if first % 2 == second % 2 == 0 else "pieces of one clip, one of them re-encoded and halved"), one, other
        second_long = round(LEAST_PIECE_SECONDS * fps)
        fine = range(0, len(frames) - second_long + 1, round(FINE_SECONDS * fps))
        cut = [(start, opened_as(frames[start : start + second_long], "crf23")) for start in fine]
        for (start, one), (later, other) in combinations(cut, 2):
            if later - start >= second_long + gap:
                yield "pieces of a second, finely cut", one, other


def false_matches(data: Path, rows: list[dict[str, str]]) -> dict[str, dict[str, Any]]:
    """By sort of pair: how many there are, how many are taken for one recording, and the nearest."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for sort, one, other in pairs_of_one_person(data, rows, Path(folder)):
            alike, tally = likeness(one, other), found.setdefault(sort, {"n": 0, "matched": 0, "most_motion": -1.0})
            tally["n"] += 1
            tally["matched"] += alike.same
            if alike.frames > 1:
                tally["most_motion"] = max(tally["most_motion"], round(alike.motion, 3))
    return found


def search_time(root: Path, known: int = 100_000, new: int = 1_000) -> dict[str, Any]:
    """Seconds to find candidates of `new` files among `known`, one thread: half are copies with two bits changed in each word.

    The words are those of the real files with 12 bits of each drawn anew, so that they stay as unevenly spread as real ones.
    """
    from pipelines.fingerprint import words_of

    rng = np.random.default_rng(1)
    real = [words_of(text) for text in read_manifest(root / "data" / "raw" / "known")["phash"] if text]

    def varied(words: np.ndarray, bits: int) -> np.ndarray:
        return words ^ (np.uint64(1) << rng.integers(0, 64, (bits, len(words)), dtype=np.uint64)).sum(0, dtype=np.uint64)

    signatures = [varied(real[number % len(real)], 12) for number in range(known)]
    asked = [varied(signatures[number], 2) if number % 2 else varied(real[number % len(real)], 12) for number in range(new)]
    cv2.setNumThreads(1)
    begun, used = time.perf_counter(), time.process_time()
    neighbours = Neighbours().plus(signatures)
    built = time.perf_counter()
    answers = [neighbours.of(words, known, SETTINGS.ingest.near_duplicate_bits) for words in asked]
    ended, used = time.perf_counter(), time.process_time() - used
    first = sum(bool(answer) and answer[0] == number for number, answer in enumerate(answers) if number % 2)
    return {
        "known": known, "new": new, "words": sum(map(len, signatures)), "index_seconds": round(built - begun, 2), "search_seconds": round(ended - built, 2),
        "processor_seconds": round(used, 2), "load": round(os.getloadavg()[0], 1),
        "copies_first": first, "copies": new // 2, "candidates_each": round(float(np.mean([len(answer) for answer in answers])), 2),
    }  # fmt: skip


def known_media(work: Path, data: Path, code: str) -> Path:
    """A workspace that has all media ingested; made once for a code."""
    known = work / "known"
    mark = known / "made-by"
    if not is_made_by(mark, code):
        shutil.rmtree(known, ignore_errors=True)
        ingest(known, SETTINGS, [SourceSettings(name="known", path=str(data))], batch="known")
        mark.write_text(code)
    return known


def step(kept: Path, code: str, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What this code measured, now or in an earlier run; what other code left in the file goes."""
    page = json.loads(kept.read_text()) if kept.is_file() else {}
    done: dict[str, dict[str, Any]] = page["steps"] if page.get("code") == code else {}
    if name not in done:
        done[name] = measure()
        kept.write_text(json.dumps({"code": code, "steps": done}))
    print(name, json.dumps(done[name]), flush=True)
    return done[name]


def main() -> None:
    """Run the steps that are not done, then append one row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vigil-duplicates")
    given = parser.parse_args()
    data = Path(os.environ.get("VIGIL_SHARED_DATA", "")).absolute()
    if not (data / "labels.csv").is_file():
        raise SystemExit("No real faces: set VIGIL_SHARED_DATA to a folder with labels.csv. Nothing was measured.")
    with open(data / "labels.csv", encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["label"] == "real" and row["kind"] in ("photo", "talking-head")]
    people = sorted({row["identity"] for row in rows if row["identity"]})
    order = {id(row): people.index(row["identity"]) if row["identity"] else number for number, row in enumerate(rows)}
    rows = [row for row in rows if order[id(row)] % 2 == (given.half == "report")]
    given.work.mkdir(parents=True, exist_ok=True)
    code = f"{code_hash('benchmarks/duplicates.py')} {sha256_file(data / 'labels.csv')[:12]}"
    known, kept = known_media(given.work, data, code), given.work / f"{given.half}.json"
    done = {"search": step(kept, code, "search", lambda: search_time(known))}
    done["different"] = step(kept, code, "different", lambda: false_matches(data, rows))
    photos = sorted((row for row in rows if row["kind"] == "photo"), key=lambda row: sha256_file(data / row["path"]))[:MOST_PHOTOS]
    clips = [row for row in rows if row["kind"] != "photo"]
    for kind, mine, changes in (("talking-head", clips, VIDEO_CHANGES), ("photo", photos, IMAGE_CHANGES)):
        for change in changes:
            name = f"{kind} {change}"
            done[name] = step(kept, code, name, lambda mine=mine, change=change: recall(data, mine, change, known))  # type: ignore[misc]
    append_row(given.half, code, done)


def append_row(half: str, code: str, done: dict[str, Any]) -> None:
    """Sum up and append: recall over all, by kind and change; false matches; times."""
    copies = {name: tally for name, tally in done.items() if name.startswith(("photo", "talking-head"))}
    pairs = list(done["different"].values())

    def part(hits: int, n: int) -> dict[str, Any]:
        return {"part": round(hits / n, 5), "n": n, "interval": [round(end, 5) for end in wilson(hits, n) or (0.0, 1.0)]}

    row = {
        "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "half": half, "code": code, "search": done["search"],
        "recall": part(sum(tally["found"] for tally in copies.values()), sum(tally["n"] for tally in copies.values())),
        "recall_by_change": {name: part(tally["found"], tally["n"]) for name, tally in copies.items()},
        "marked_as_a_copy_of_another": sum(tally["of_another"] for tally in copies.values()),
        "false_matches": part(sum(tally["matched"] for tally in pairs), sum(tally["n"] for tally in pairs)),
        "false_matches_by_sort": {sort: part(one["matched"], one["n"]) | {"most_motion": one["most_motion"]} for sort, one in done["different"].items()},
    }  # fmt: skip
    add_row(HERE / "duplicates.jsonl", row)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
