"""File to verdict: seconds and memory of a 10 s 1080p clip and of a picture, in a warm process on this machine's cores.

    python benchmarks/latency.py [--starter FOLDER]        appends rows to benchmarks/latency.jsonl

The network is the full profile's (ResNeXt-50, 224 px), untrained: weights do not change the time. Beside it the starter model,
and the naive way: every frame decoded, every face cut, the checkpoint in eager fp32. Each way runs in a process of its own,
one after the other in the same run, the first call (loading, warm-up) not counted.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import a_model  # noqa: E402
from workspace.files import add_row  # noqa: E402
from workspace.quiet import set_quiet_environment  # noqa: E402

set_quiet_environment()

SECONDS, FPS, WIDE, HIGH = 10, 30.0, 1920, 1080
WAYS = ("image", "fast", "standard", "dense", "naive")
RUNS = {"image": 7, "fast": 5, "standard": 5}  # the long ones once


def make_media(folder: Path) -> tuple[Path, Path]:
    """A 10 s clip and a picture, both 1920 x 1080, of a rendered person beside a plain wall."""
    import cv2
    import numpy as np

    from media.decode import read_frames
    from media.synthetic import make_sample_media
    from media.synthetic.camera import encode_h264

    report = make_sample_media(folder, people=1, clips_per_person=1, seconds=SECONDS, seed=5, fakes={}, size_px=480, fps=FPS)
    times = [number / FPS for number in range(int(SECONDS * FPS))]
    frames = []
    for _, frame in read_frames(folder / report.rows[0]["path"], times):
        large = cv2.resize(frame, (HIGH, HIGH), interpolation=cv2.INTER_CUBIC)
        scene = np.full((HIGH, WIDE, 3), large[:, :1].mean(axis=(0, 1)), np.uint8)
        scene[:, (WIDE - HIGH) // 2 : (WIDE + HIGH) // 2] = large
        frames.append(scene)
    clip, picture = folder / "clip.mp4", folder / "picture.jpg"
    encode_h264(clip, frames, FPS, 20, "veryfast")
    cv2.imwrite(str(picture), np.ascontiguousarray(frames[0][..., ::-1]))
    return clip, picture


def make_model(folder: Path) -> None:
    """A model folder of the full profile, untrained."""
    import torch
    import yaml

    from model.card import ModelCard, write_card
    from model.checkpoint import save_model
    from model.export import export_onnx
    from model.network import ResNeXtLSTM
    from workspace.settings import parse_settings

    settings = parse_settings(yaml.safe_load((HERE.parent / "params.yaml").read_text()))
    torch.manual_seed(0)
    network = ResNeXtLSTM(settings.model, settings.faces.size_px).eval()
    folder.mkdir(parents=True)
    weights, onnx = save_model(network, folder / "model.safetensors"), export_onnx(network, folder / "model.onnx")
    shape = {"faces": settings.faces, "model": settings.model, "threshold": 0.5, "temperature": 1.0, "abstain": 0.1}
    write_card(folder, ModelCard(model_sha256=weights, onnx_sha256=onnx, cycle="benchmark", **shape))


def naive(folder: Path, clip: Path) -> Callable[[], int]:
    """All frames, one by one, then the checkpoint as it is."""
    import torch

    from media.decode import probe
    from media.faces import extract_clips
    from model.card import load_card
    from model.checkpoint import load_model
    from model.data import to_tensor

    card, network = load_card(folder), load_model(folder / "model.safetensors")
    faces = card.faces.model_copy(update={"mode": "dense", "fps": FPS, "clip_frames": 30})
    assert probe(clip).duration_seconds >= SECONDS - 0.5

    def work() -> int:
        found = extract_clips(clip, faces, os.cpu_count() or 2)
        with torch.no_grad():
            for one in found.clips:
                network(to_tensor(one.frames)[None])
        return found.frames_seen

    return work


def measure(way: str, folder: Path, media: Path) -> dict[str, Any]:
    """Seconds of one way (median and all), frames looked at, peak memory of this process."""
    from model.inference import Engine

    if way == "naive":
        work = naive(folder, media)
    else:
        engine = Engine(folder, threads=os.cpu_count() or 2)

        def work() -> int:
            return engine.score_file(media, None if way == "image" else way).frames

    seconds = []
    work()  # the first call reads files and finds its plans
    for _ in range(RUNS.get(way, 1)):
        started = time.perf_counter()
        frames = work()
        seconds.append(round(time.perf_counter() - started, 3))
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024**2  # getrusage would tell the parent's
    return {"way": way, "seconds": statistics.median(seconds), "all": seconds, "frames": frames, "peak_gb": round(peak, 2)}


def main() -> None:
    """Make the media and the model, measure each way in a child, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starter", type=a_model, default=HERE.parent / "model" / "starter")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        way, folder, media = arguments.one
        print(json.dumps(measure(way, Path(folder), Path(media))))
        return
    with tempfile.TemporaryDirectory(prefix="vigil-latency-") as scratch:
        clip, picture = make_media(Path(scratch) / "media")
        make_model(Path(scratch) / "full")
        plan = [(name, folder, way) for name, folder in (("full, untrained", Path(scratch) / "full"), ("starter", arguments.starter)) for way in WAYS]
        for name, folder, way in plan:
            words = [sys.executable, __file__, "--one", way, str(folder), str(picture if way == "image" else clip)]
            said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            row = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "cores": os.cpu_count(), "load": os.getloadavg()[0], "model": name}
            row |= json.loads(said.splitlines()[-1])
            add_row(HERE / "latency.jsonl", row)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
