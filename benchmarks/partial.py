"""Partial forgeries: one forged second in ten, one forged face in three. Found at 5% false alarms, and named in time?

    python benchmarks/partial.py -w demo [--forger upsampler]     a workspace whose champion knows the forger; appends a row to benchmarks/partial.jsonl

Rendered people whom no model met, ten seconds each, scored in mode dense. The threshold is the one that 5% of all real videos here pass: it needs no
fake. Against it stand the same videos with a forged second (same motion, light and camera, so no cut gives it away), and three people side by side of
whom one is forged throughout, with a threshold of their own. Forged by blendswap (another person's face) unless `--forger` says otherwise. Intervals
draw people anew, and with them the threshold, and are at least Wilson's. Beside it, from the same clips, what is found where no clip is weighed
against the rest of its video (`without_rest`). People of seed 91 are not used any more: on them the rule of aggregation was looked at while it was
made.
"""

import argparse
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from workspace.quiet import set_quiet_environment  # noqa: E402

set_quiet_environment()

SEED, FIRST, SECONDS, FPS, SIZE = 97, 20_000, 10, 12.0, 256
ALARMS, RESAMPLES = 0.05, 2000


def both_takes(person: int, forger: str | None) -> tuple[list[Any], list[Any]]:
    """Recorded frames of a real take, and of the same take forged; without a forger the first one twice."""
    from media.synthetic.camera import Sensor, draw_camera
    from media.synthetic.generators import BlendSwap
    from media.synthetic.motion import draw_motion
    from media.synthetic.people import draw_person
    from media.synthetic.renderer import PersonRenderer, draw_take
    from media.synthetic.sample import ALONE, take_generator

    rng = take_generator(SEED, person, 0, "")
    camera = draw_camera(rng, SIZE)
    motion = draw_motion(rng, int(SECONDS * FPS), FPS)
    shown = draw_person(SEED, person)
    scene = draw_take(rng, shown, motion, camera.width, camera.height)
    renderer = PersonRenderer(shown, scene, SEED)
    sources = [renderer.frames()]
    if forger == "blendswap":
        sources.append(BlendSwap(renderer, PersonRenderer(draw_person(SEED, person + 5000), scene, SEED), rng).frames())
    elif forger:
        sources.append(ALONE[forger](renderer, rng).frames())
    recorded = []
    for source in sources:
        sensor = Sensor(camera, take_generator(SEED, person, 1, ""))  # the same noise in both
        recorded.append([sensor.record(picture) for picture in source])
    return recorded[0], recorded[-1]


def make_videos(folder: Path, people: range, seconds: int, forger: str | None) -> dict[str, dict[str, tuple[Path, float]]]:
    """Videos by kind and by whom they show, each with the start of its forged second (negative: none). Threes are made of neighbours.

    Of the first `seconds` people there is one with a forged second; without a forger all are real.
    """
    import numpy as np

    from media.synthetic.camera import encode_h264

    made: dict[str, dict[str, tuple[Path, float]]] = {"real": {}, "second": {}, "three real": {}, "three": {}}
    waiting: list[tuple[list[Any], list[Any]]] = []

    def write(kind: str, name: str, frames: list[Any], start: float) -> None:
        path = folder / f"{kind.replace(' ', '-')}-{name}.mp4"
        encode_h264(path, frames, FPS, 23, "veryfast")
        made[kind][name] = (path, start)

    for place, person in enumerate(people):
        of_three = place // 3 % 3 == place % 3  # the forged one of its three: the first, the second, the third in turn
        cut = forger is not None and place < seconds
        real, fake = both_takes(person, forger if cut or of_three else None)
        start = float(np.random.default_rng([SEED, person]).uniform(0.5, SECONDS - 1.5))
        first, last = round(start * FPS), round((start + 1) * FPS)
        write("real", str(person), real, -1.0)
        if cut:
            write("second", str(person), [*real[:first], *fake[first:last], *real[last:]], start)
        waiting.append((real, fake))
        if len(waiting) == 3:
            sides = [min(frame.shape[axis] for one, _ in waiting for frame in one[:1]) for axis in (0, 1)]
            forged = place // 3 % 3
            for kind, which in (("three real", -1), ("three", forged)):
                if kind == "three" and forger is None:
                    continue
                chosen = [pair[int(number == which)] for number, pair in enumerate(waiting)]
                beside = [np.concatenate([frame[: sides[0], : sides[1]] for frame in frames], axis=1) for frames in zip(*chosen, strict=True)]
                write(kind, str(person), [frame[:, : frame.shape[1] // 2 * 2] for frame in beside], 0.0 if which >= 0 else -1.0)
            waiting = []
    return made


def scored(engine: Any, videos: dict[str, tuple[Path, float]], forged_third: dict[str, int] | None = None) -> dict[str, tuple[float, float, bool, str]]:
    """By whom it shows: p_fake of each video that got a verdict, p_fake by its clips alone, whether what it names is what was forged (its most suspicious
    clip overlaps the forged second, or, with `forged_third`, the face of its most suspicious track lies in that third of the picture), and the verdict.
    """
    import copy

    from media.faces import extract_clips
    from model.aggregate import UNKNOWN

    alone = copy.copy(engine)
    alone.card = engine.card.model_copy(update={"levels": UNKNOWN})
    faces = engine.card.faces.model_copy(update={"mode": "dense"})
    rows = {}
    for name, (path, start) in videos.items():
        found = extract_clips(path, faces, os.cpu_count() or 2)
        clips = engine.score_clips([clip.frames for clip in found.clips])
        said = engine.judge(found, str(path), clips)
        if said.p_fake is None:
            continue
        worst = max(said.clips, key=lambda row: row["p_fake"])
        named = worst["start_seconds"] < start + 1 and worst["end_seconds"] > start
        if forged_third is not None:
            place = max(said.tracks, key=lambda row: row["p_fake"])["place"]
            named = place is not None and int(3 * place[0]) == forged_third[name]
        rows[name] = (said.p_fake, float(alone.judge(found, str(path), clips).p_fake or 0.0), named, said.verdict)
    return rows


def found_at(real: dict[str, float], forged: dict[str, float]) -> dict[str, Any]:
    """Part of the forged above the threshold that ALARMS of all reals pass, with the wider of Wilson's interval and of that over draws of people."""
    import numpy as np

    from model.metrics import wilson

    people = sorted(real)
    quiet, loud = np.array([real[name] for name in people]), np.array([forged.get(name, np.nan) for name in people])
    rng = np.random.default_rng(SEED)

    def found(chosen: Any) -> float:
        limit, values = np.quantile(quiet[chosen], 1 - ALARMS), loud[chosen]
        return float((values[~np.isnan(values)] > limit).mean()) if (~np.isnan(values)).any() else float("nan")

    share, n = found(np.arange(len(people))), int((~np.isnan(loud)).sum())
    drawn = [found(rng.integers(0, len(people), len(people))) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    ends = wilson(share * n, n) or (low, high)  # draws of few errors differ too little, and of none not at all
    limit = float(np.quantile(quiet, 1 - ALARMS))
    return {"threshold": round(limit, 4), "reals": len(people), "n": n, "found": share, "interval": [min(low, ends[0]), max(high, ends[1])]}


def main() -> None:
    """Make, score, append."""
    import numpy as np

    from benchmarks.commands import champion_of, count
    from media.synthetic.sample import ALONE
    from model.inference import Engine
    from workspace.files import add_row

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--seconds", type=count, default=60, help="videos with a forged second")
    parser.add_argument("--threes", type=count, default=60, help="videos of three people, one of them forged, and as many of three real ones besides")
    parser.add_argument("--forger", choices=("blendswap", *ALONE), default="blendswap")
    arguments = parser.parse_args()
    engine = Engine(champion_of(arguments.workspace), threads=os.cpu_count() or 2)
    row: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": SEED,
        "model": engine.model_id,
        "forger": arguments.forger,
        "mode": "dense",
    }
    row["levels"] = engine.card.levels
    with tempfile.TemporaryDirectory(prefix="vigil-partial-") as scratch:
        count = 3 * arguments.threes
        first = make_videos(Path(scratch), range(FIRST, FIRST + count), 0, None)
        second = make_videos(Path(scratch), range(FIRST + 2000, FIRST + 2000 + count), arguments.seconds, arguments.forger)
        for kind, real in (("second", "real"), ("three", "three real")):
            thirds = {name: (int(name) - FIRST - 2000) // 3 % 3 for name in second[kind]} if kind == "three" else None
            quiet, forged = scored(engine, first[real] | second[real]), scored(engine, second[kind], thirds)
            row[kind] = found_at({name: one[0] for name, one in quiet.items()}, {name: one[0] for name, one in forged.items()})
            alone = found_at({name: one[1] for name, one in quiet.items()}, {name: one[1] for name, one in forged.items()})
            row[kind] |= {"without_rest": alone["found"], "no_verdict": len(first[real] | second[real]) + len(second[kind]) - len(quiet) - len(forged)}
            hit = [named for p_fake, _, named, _ in forged.values() if p_fake > row[kind]["threshold"]]
            row[kind]["named"] = sum(hit) / len(hit) if hit else None
            # what a user reads who sets nothing but the mode
            row[kind] |= {"called_fake": [float(np.mean([one[3] == "fake" for one in part.values()])) if part else None for part in (forged, quiet)]}
            row[kind]["scores"] = {"real": sorted(round(one[0], 4) for one in quiet.values()), "forged": sorted(round(one[0], 4) for one in forged.values())}
    add_row(HERE / "partial.jsonl", row)
    print(json.dumps({name: {key: part[key] for key in part if key != "scores"} if isinstance(part, dict) else part for name, part in row.items()}, indent=1))


if __name__ == "__main__":
    main()
