"""`vigil explain FILE`: pictures, a timeline and a short sentence about one verdict."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.layouts.found import as_text
from vigil.scoring import choose_model, note_mode, refuse_unknown_mode, warning
from workspace.errors import ModelFileError, VigilError
from workspace.files import atomic_file, write_json

if TYPE_CHECKING:
    from media.faces import FaceClip
    from model.explain import ClipExplanation
    from model.inference import FileVerdict

SHOWN = 6  # frames of the most telling clip, side by side
TILE_PX = 192  # smaller crops are enlarged to about this, to be seen


def explain_file(path: Path, workspace: Path | None, model: Path | None, out: Path, mode: str = "") -> dict[str, Any]:
    """Write overlay.png, of a video timeline.png, and explanation.json into `out`; returns the last's content. `mode` replaces the card's.

    Raises VigilError where the file has no face clip, or the model's folder no weights: slopes need them.
    """
    from media.faces import extract_clips
    from model.checkpoint import load_model
    from model.explain import explain_verdict, mesh_evidence, sentence
    from model.inference import Engine

    refuse_unknown_mode(mode)
    if path.is_dir():
        raise VigilError(f"Cannot explain {path}.", why="it is a folder", next_step="Name one image or video.")
    folder, mark = choose_model(workspace, model)
    engine = Engine(folder)
    if mark:
        print(warning(mark, folder), file=sys.stderr)
    note_mode(engine, mode)
    if not (folder / "model.safetensors").is_file():
        raise ModelFileError("This model cannot be explained.", why=f"{folder} has no model.safetensors", next_step="Name the folder of a whole model.")
    extraction = extract_clips(path, engine.faces_in(mode or None))
    said = replace(engine.judge(extraction, str(path)), learned=engine.learned_of(extraction))
    if said.p_fake is None:
        raise VigilError(f"There is nothing to explain in {path}.", why=said.reason, next_step="Name an image or a video with a face.")
    worst, found = explain_verdict(load_model(folder / "model.safetensors", engine.card.model_sha256), engine.card, said, extraction.clips)
    clip = extraction.clips[worst]
    mesh = mesh_evidence(clip.landmarks, clip.end_seconds - clip.start_seconds)
    out.mkdir(parents=True, exist_ok=True)
    draw_overlay(out / "overlay.png", clip, found)
    pictures = ["overlay.png"]
    if said.kind == "video":
        draw_timeline(out / "timeline.png", said, found, said.clips[worst], engine.card.threshold)
        pictures.append("timeline.png")
    else:
        (out / "timeline.png").unlink(missing_ok=True)  # of a video that was explained before
    page = {
        "file": as_text(str(path)), "verdict": said.verdict, "p_fake": said.p_fake, "threshold": engine.card.threshold, "model": said.model, "mark": mark,
        "sentence": sentence(said, found, said.clips[worst]), "reason": said.told, "learned": said.learned,
        "regions": found.regions(), "clip": said.clips[worst], "certainty": _values(found.certainty),
        "frame_p": _values(found.frame_p), "state_change": _values(found.change),
        "mesh": {"blinks_per_second": mesh.blinks_per_second, "mouth_jump": mesh.mouth_jump, "crop_tremble": mesh.crop_tremble},
        "pictures": pictures,
    }  # fmt: skip
    write_json(out / "explanation.json", page)
    return page


def draw_overlay(path: Path, clip: "FaceClip", found: "ClipExplanation") -> None:
    """Frames of the clip above, the same under the heat below."""
    import matplotlib

    colours = matplotlib.colormaps["inferno"]
    picks = sorted({round(place) for place in np.linspace(0, len(clip.frames) - 1, min(SHOWN, len(clip.frames)))})
    rows = []
    for heated in (False, True):
        tiles = []
        for place in picks:
            frame = clip.frames[place].astype(np.float64) / 255
            if heated:
                warm = found.heat[place][..., None]
                frame = frame * (1 - 0.65 * warm) + colours(found.heat[place])[..., :3] * 0.65 * warm
            tiles.append(frame)
        rows.append(np.concatenate(tiles, axis=1))
    _write(path, np.concatenate(rows, axis=0))


def draw_timeline(path: Path, said: "FileVerdict", found: "ClipExplanation", clip: dict[str, Any], threshold: float) -> None:
    """p_fake of every clip over time with the threshold, and below it frame by frame the clip that was explained."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    over, within = figure.subplots(2, 1)
    for track in sorted({row["track"] for row in said.clips}):
        mine = [row for row in said.clips if row["track"] == track]
        for number, row in enumerate(mine):
            ends = row["start_seconds"], max(row["end_seconds"], row["start_seconds"] + 0.05)
            over.plot(ends, [row["p_fake"]] * 2, color=f"C{track}", linewidth=5, solid_capstyle="butt", label=f"face {track + 1}" if not number else None)
    over.axhline(threshold, color="#57606a", linewidth=1, linestyle="--", label="threshold")
    over.set(ylim=(-0.02, 1.02), ylabel="p_fake of a clip", xlabel="seconds")
    over.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    frames = np.arange(1, len(found.change) + 1)
    for values, colour, label in ((found.frame_p, "C3", "frame's own p_fake"), (found.certainty, "C0", "certainty")):
        if values is not None:
            within.plot(frames, values, marker="o", markersize=3, color=colour, label=label)
    peak = float(found.change.max()) or 1.0
    within.plot(frames, found.change / peak, color="#57606a", linewidth=1, label="LSTM state change\n(of its largest)")
    within.set(ylim=(-0.02, 1.02), xlabel=f"frame of the clip from {clip['start_seconds']:.1f} to {clip['end_seconds']:.1f} s", ylabel="0 .. 1")
    within.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    for axes in (over, within):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _values(of_frames: np.ndarray | None) -> list[float] | None:
    return None if of_frames is None else of_frames.tolist()


def _write(path: Path, picture: np.ndarray) -> None:
    import cv2

    pixels = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    if (enlarge := 2 * TILE_PX // pixels.shape[0]) > 1:
        pixels = cv2.resize(pixels, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
    _, content = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))
    with atomic_file(path, "wb") as handle:  # OpenCV says nothing where it cannot write, and dies of a name that is no UTF-8
        handle.write(content.tobytes())
