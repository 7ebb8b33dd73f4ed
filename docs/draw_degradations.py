"""Draws docs/degradations.png and docs/forgers.png: what training does to a clip, on the project's own sample media.

python docs/draw_degradations.py
"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from media.degrade import h264_round_trip, jpeg_round_trip, local_contrast, motion_blur, remove_noise, rescale, sharpen, soften
from media.faces import extract_clips
from media.forgers import FORGERS, forge_clip
from media.synthetic import make_sample_media
from model.augment import cover, mask_spectrum
from model.data import to_tensor
from model.forgers import LEARNED, Face
from workspace.settings import FaceSettings

HERE = Path(__file__).resolve().parent
FACES = FaceSettings(size_px=160, fps=8.0, clip_frames=4, clips_per_video=1, min_clip_frames=2, max_detect_px=384)
LEARN_STEPS = 200


def clips() -> list[tuple[np.ndarray, np.ndarray]]:
    """Eight rendered people's clips [4, 160, 160, 3] with landmarks."""
    with tempfile.TemporaryDirectory() as scratch:
        report = make_sample_media(Path(scratch), people=8, seconds=1.0, seed=11, fakes={})
        found = [extract_clips(Path(scratch) / row["path"], FACES).clips[0] for row in report.rows]
    return [(clip.frames, clip.landmarks) for clip in found]


def sheet(path: Path, tiles: list[tuple[str, np.ndarray]], columns: int = 6) -> None:
    """Pictures with their names below, as one PNG."""
    rows = -(-len(tiles) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 1.75, rows * 1.95), layout="constrained")
    for place in axes.flat:
        place.axis("off")
    for place, (name, picture) in zip(axes.flat, tiles, strict=False):
        place.imshow(picture)
        place.set_title(name, fontsize=8, y=-0.16)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def degraded(clip: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Each degradation alone, at a strength that can be seen."""
    rng, frames = np.random.default_rng(3), to_tensor(clip)
    noisy = np.clip(clip + rng.normal(0, 0.1 * 255, clip.shape), 0, 255).astype(np.uint8)
    grainy = np.clip(clip + rng.normal(0, 0.03 * 255, clip.shape), 0, 255).astype(np.uint8)
    shown = [
        ("as it is", clip), ("JPEG 40", jpeg_round_trip(clip, 40)), ("H.264 crf 40", h264_round_trip(clip, 40)), ("scaled to 0.4 and back", rescale(clip, 0.4)),
        ("blur, sigma 1.5 px", soften(clip, 1.5)), ("motion blur, 7 px", motion_blur(clip, 7, 0.4)), ("sharpened", sharpen(clip, 1.0)),
        ("noise removed", remove_noise(grainy, 40.0)), ("local contrast (CLAHE)", local_contrast(clip, 3.0)), ("noise, sigma 0.1", noisy),
    ]  # fmt: skip
    tensors = [("face part covered", cover(frames, np.random.default_rng(4))), ("15% of the spectrum gone", mask_spectrum(frames, 0.15, rng).clamp(0, 1))]
    return [(name, made[1]) for name, made in shown] + [(name, made[1].permute(1, 2, 0).numpy()) for name, made in tensors]


def forged(people: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    """The second frame of one clip by every forger."""
    (frames, points), donor = people[0], people[1]
    tiles = [("real", frames[1])]
    for name, forger in FORGERS.items():
        tiles.append((name, forge_clip(name, frames, points, np.random.default_rng(6), donor if forger.needs_donor else None)[0][1]))
    faces = [Face(frame, number % 2) for number, (pictures, _) in enumerate(people) for frame in pictures]
    for name, learned in LEARNED.items():
        network = learned.learn(faces, LEARN_STEPS, 1, lambda done, total: None)
        tiles.append((name, learned.forge(network, frames, points, np.random.default_rng(6), 0)[0][1]))
    return tiles


if __name__ == "__main__":
    people = clips()
    sheet(HERE / "degradations.png", degraded(people[0][0]))
    sheet(HERE / "forgers.png", forged(people), columns=5)
