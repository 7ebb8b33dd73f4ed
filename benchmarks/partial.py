"""Partial forgeries: one forged second in ten, one forged face in three. Found at 5% false alarms, and named in time?

    python benchmarks/partial.py -w demo        a workspace whose champion knows blendswap; appends a row to benchmarks/partial.jsonl

Rendered people whom no model met, ten seconds each, scored in mode dense. The threshold is the 95th percentile of a first, larger group's
real videos; the second group's real videos give the false alarms, the same videos with a forged second (same motion, light and
camera, so no cut gives it away) the part found. Three people side by side the same way, with a threshold of their own. Beside it, from
the same clips, what is found where no clip is weighed against the rest of its video (`without_rest`).
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

SEED, FIRST, SECONDS, FPS, SIZE = 91, 9000, 10, 12.0, 256
ALARMS = 0.05


def both_takes(person: int, donor: int | None) -> tuple[list[Any], list[Any]]:
    """Recorded frames of a real take, and of the same take with the donor's face; without a donor of the first alone."""
    from media.synthetic.camera import Sensor, draw_camera
    from media.synthetic.generators import BlendSwap
    from media.synthetic.motion import draw_motion
    from media.synthetic.people import draw_person
    from media.synthetic.renderer import PersonRenderer, draw_take
    from media.synthetic.sample import take_generator

    rng = take_generator(SEED, person, 0, "")
    camera = draw_camera(rng, SIZE)
    motion = draw_motion(rng, int(SECONDS * FPS), FPS)
    shown = draw_person(SEED, person)
    scene = draw_take(rng, shown, motion, camera.width, camera.height)
    renderer = PersonRenderer(shown, scene, SEED)
    sources = [renderer.frames()]
    if donor is not None:
        sources.append(BlendSwap(renderer, PersonRenderer(draw_person(SEED, donor), scene, SEED), rng).frames())
    recorded = []
    for source in sources:
        sensor = Sensor(camera, take_generator(SEED, person, 1, ""))  # the same noise in both
        recorded.append([sensor.record(picture) for picture in source])
    return recorded[0], recorded[-1]


def make_videos(folder: Path, people: range, only_real: bool) -> dict[str, list[tuple[Path, float]]]:
    """Videos of a group by kind, each with the start of its forged second (negative: none). Threes are made of neighbours."""
    import numpy as np

    from media.synthetic.camera import encode_h264

    made: dict[str, list[tuple[Path, float]]] = {"real": [], "second": [], "three real": [], "three": []}
    waiting: list[tuple[list[Any], list[Any]]] = []

    def write(kind: str, name: str, frames: list[Any], start: float) -> None:
        path = folder / f"{kind.replace(' ', '-')}-{name}.mp4"
        encode_h264(path, frames, FPS, 23, "veryfast")
        made[kind].append((path, start))

    for person in people:
        real, fake = both_takes(person, None if only_real else person + 500)
        start = float(np.random.default_rng([SEED, person]).uniform(0.5, SECONDS - 1.5))
        first, last = round(start * FPS), round((start + 1) * FPS)
        write("real", str(person), real, -1.0)
        if not only_real:
            write("second", str(person), [*real[:first], *fake[first:last], *real[last:]], start)
        waiting.append((real, fake))
        if len(waiting) == 3:
            sides = [min(frame.shape[0] for one, _ in waiting for frame in one[:1]), min(frame.shape[1] for one, _ in waiting for frame in one[:1])]
            for kind, forged in (("three real", -1), ("three", person % 3)):
                if kind == "three" and only_real:
                    continue
                chosen = [pair[int(place == forged)] for place, pair in enumerate(waiting)]
                beside = [np.concatenate([frame[: sides[0], : sides[1]] for frame in frames], axis=1) for frames in zip(*chosen, strict=True)]
                write(kind, str(person), [frame[:, : frame.shape[1] // 2 * 2] for frame in beside], 0.0 if forged >= 0 else -1.0)
            waiting = []
    return made


def scored(engine: Any, videos: list[tuple[Path, float]]) -> tuple[Any, Any, list[bool]]:
    """p_fake of each video that got a verdict, p_fake by its clips alone, and whether its most suspicious clip overlaps the forged second."""
    import copy

    import numpy as np

    from media.faces import extract_clips
    from model.aggregate import UNKNOWN

    alone = copy.copy(engine)
    alone.card = engine.card.model_copy(update={"levels": UNKNOWN})
    faces = engine.card.faces.model_copy(update={"mode": "dense"})
    scores, without, named = [], [], []
    for path, start in videos:
        found = extract_clips(path, faces, os.cpu_count() or 2)
        clips = engine.score_clips([clip.frames for clip in found.clips])
        said = engine.judge(found, str(path), clips)
        if said.p_fake is None:
            continue
        worst = max(said.clips, key=lambda row: row["p_fake"])
        scores.append(said.p_fake)
        without.append(alone.judge(found, str(path), clips).p_fake)
        named.append(worst["start_seconds"] < start + 1 and worst["end_seconds"] > start)
    return np.array(scores), np.array(without), named


def main() -> None:
    """Make, score, append."""
    import numpy as np

    from benchmarks.results import add_row
    from model.inference import Engine
    from model.metrics import wilson
    from vigil.scoring import choose_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--people", type=int, default=60, help="of the second group; the first is three times as many")
    arguments = parser.parse_args()
    engine = Engine(choose_model(arguments.workspace, None)[0], threads=os.cpu_count() or 2)
    row: dict[str, Any] = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "model": engine.model_id, "mode": "dense", "levels": engine.card.levels}
    with tempfile.TemporaryDirectory(prefix="vigil-partial-") as scratch:
        first = make_videos(Path(scratch), range(FIRST, FIRST + 3 * arguments.people), only_real=True)
        second = make_videos(Path(scratch), range(FIRST + 1000, FIRST + 1000 + arguments.people), only_real=False)
        for kind, real in (("second", "real"), ("three", "three real")):
            (quiet, quiet_alone, _), (others, _, _), (scores, alone, named) = (scored(engine, videos) for videos in (first[real], second[real], second[kind]))
            threshold = float(np.quantile(quiet, 1 - ALARMS))
            found, alarms = scores > threshold, others > threshold
            row[kind] = {"threshold": round(threshold, 4), "n": len(found), "found": float(found.mean()), "interval": wilson(int(found.sum()), len(found))}
            row[kind] |= {"false_alarms": float(alarms.mean()), "of": len(alarms), "without_rest": float((alone > np.quantile(quiet_alone, 1 - ALARMS)).mean())}
            if kind == "second":
                row[kind]["named_in_time"] = float(np.array(named)[found].mean()) if found.any() else None
    add_row(HERE / "partial.jsonl", row)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
