"""Draws docs/loop.png: the loop as a picture, with faces from the project's own sample media.

python docs/draw_loop.py
"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from media.decode import read_frames
from media.faces import extract_clips
from media.forgers import forge_clip
from media.synthetic import make_sample_media
from workspace.settings import FaceSettings

INK, PAPER, BLUE, GREEN, RED, AMBER = "#1d2733", "#ffffff", "#2f6fab", "#2e8b57", "#c0392b", "#d08a12"
STEPS = [
    ("new media", "folders, S3,\nreviewed cases", BLUE),
    ("faces", "found, followed,\naligned, checked", BLUE),
    ("forge", "self-blends, swaps,\nadversarial clips", RED),
    ("train", "ResNeXt-LSTM,\nwarm start, replay", INK),
    ("gates", "accuracy, robustness,\ndrift, forgetting", AMBER),
    ("serve", "champion answers;\npeople see the unsure", GREEN),
]


def pictures() -> list[np.ndarray]:
    """A picture a step: a take, its crop, a forgery of it, a crop under noise, another forger's take, another person."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        make_sample_media(out, people=3, clips_per_person=1, seconds=1.0, seed=7, fakes={"upsampler": 1})
        takes = sorted((out / "real").glob("*.mp4"))
        whole = [next(iter(read_frames(take, [0.4])))[1] for take in takes]
        settings = FaceSettings(size_px=160, fps=8.0, clip_frames=6, clips_per_video=1, min_clip_frames=4)
        crops = [extract_clips(take, settings).clips[0] for take in takes]
        forged, _ = forge_clip("landmark_swap", crops[0].frames, crops[0].landmarks, np.random.default_rng(3), donor=(crops[1].frames, crops[1].landmarks))
        noise = np.random.default_rng(0).integers(-13, 14, crops[0].frames[0].shape)  # eps 0.05, to show its size
        attacked = np.clip(crops[0].frames[0].astype(int) + noise, 0, 255).astype(np.uint8)
        fake = sorted((out / "fake" / "upsampler").glob("*.mp4"))[0]
        return [whole[0], crops[0].frames[0], forged[0], attacked, extract_clips(fake, settings).clips[0].frames[0], crops[2].frames[0]]


def draw(path: Path) -> None:
    """Six boxes in a row with an arrow back from the last to the first."""
    figure, axes = plt.subplots(figsize=(13, 3.9), dpi=110)
    axes.set_xlim(0, 13)
    axes.set_ylim(0, 3.9)
    axes.axis("off")
    for number, ((title, words, colour), picture) in enumerate(zip(STEPS, pictures(), strict=True)):
        left = 0.15 + number * 2.15
        axes.add_patch(FancyBboxPatch((left, 0.95), 1.75, 2.75, boxstyle="round,pad=0.04", facecolor=PAPER, edgecolor=colour, linewidth=2))
        axes.imshow(picture, extent=(left + 0.2, left + 1.55, 2.2, 3.55), zorder=3, aspect="auto", interpolation="antialiased")
        axes.text(left + 0.875, 1.93, title, ha="center", va="center", color=colour, fontsize=14, fontweight="bold")
        axes.text(left + 0.875, 1.4, words, ha="center", va="center", color=INK, fontsize=8.5)
        if number < len(STEPS) - 1:
            axes.add_patch(FancyArrowPatch((left + 1.8, 2.3), (left + 2.12, 2.3), arrowstyle="-|>", mutation_scale=16, color=INK))
    axes.add_patch(
        FancyArrowPatch((11.8, 0.88), (1.0, 0.88), connectionstyle="arc3,rad=-0.07", arrowstyle="-|>", mutation_scale=16, color=GREEN, linewidth=1.6)
    )
    axes.text(6.4, 0.12, "what people correct comes back as next week's data", ha="center", color=GREEN, fontsize=11)
    figure.patch.set_facecolor(PAPER)
    figure.savefig(path, bbox_inches="tight", facecolor=PAPER)


if __name__ == "__main__":
    draw(Path(__file__).with_name("loop.png"))
