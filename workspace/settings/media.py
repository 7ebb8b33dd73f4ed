"""What is made of media: clips of faces, forged ones, and the looks that training gives them."""

from datetime import date
from typing import Literal

from pydantic import Field

from workspace.blocks import Block, Rule
from workspace.choices import MODES, Mode
from workspace.settings.values import Fraction, NotNegative, Positive


def check_mode(mode: str) -> None:
    """Raise ValueError unless `mode` is one of MODES, or empty: whatever the model's own is."""
    if mode and mode not in MODES:
        raise ValueError(f"There is no mode {mode!r}: use {', '.join(MODES[:-1])} or {MODES[-1]}.")


class FaceSettings(Block):
    """How a face becomes a clip. Stored with the model: serving repeats exactly this."""

    RULES = (
        Rule(("min_clip_frames", "clip_frames"), lambda least, most: least <= most, "min_clip_frames ({min_clip_frames}) exceeds clip_frames ({clip_frames})"),
    )

    detector: Literal["blazeface", "haar"] = Field(
        "blazeface", description="blazeface: BlazeFace full range with the 468-point mesh; haar: frontal faces only."
    )
    size_px: int = Field(224, ge=32, le=512, description="Side of the aligned crop.")
    margin: float = Field(1.3, ge=1, le=3, description="Side of the crop as a multiple of the face's own extent; eyes and mouth are named as at 1.3.")
    mode: Mode = Field("standard", description="dense: whole video; standard: clips spread over it; fast: 1 fps.")
    fps: float = Field(5.0, gt=0, le=120, description="Frames a second within a clip, taken by time stamp.")
    clip_frames: Positive = Field(5, le=120, description="Frames a clip (T).")
    clips_per_video: Positive = Field(4, description="Clips spread over a video in mode `standard`.")
    min_clip_frames: Positive = Field(3, description="Shorter runs of one face give no clip.")
    min_face_px: Positive = Field(40, description="Smaller faces are not judged.")
    min_score: Fraction = Field(0.5, description="Least score of the face detector.")
    max_gap_frames: NotNegative = Field(2, description="A longer gap in a track ends its clip.")
    max_tracks: Positive = Field(5, description="People followed in one video; the largest faces first.")
    max_detect_px: Positive = Field(512, description="Frames are shrunk to this longest side before detection.")
    workers: NotNegative = Field(
        0,
        description="Processes that compare, cut and forge; 0: one a core. Another number cuts all faces anew; VIGIL_WORKERS=4 in the environment does not.",
    )


class PluginSettings(Block):
    """A forger from outside (contract: media/forgers/plugins.py). Its name may then stand in `forge.forgers`."""

    RULES = (Rule(("onnx", "command"), lambda onnx, command: bool(onnx) != bool(command), "name either `onnx` or `command`"),)

    name: str = Field(description="Name of the forger, and of the generator in every table.", pattern=r"^[a-z0-9][a-z0-9_]{0,40}$")
    onnx: str = Field("", description="Path of an exported image generator (a relative one is of the workspace): [N, D] -> [N, 3, H, W] in -1..1.")
    command: tuple[str, ...] = Field((), strict=False, description="Program and words; {input}, {output} and {seed} are replaced.")
    timeout_seconds: Positive = Field(120, description="A command that takes longer for one clip is ended.")
    arrived: date | None = Field(None, strict=False, description="Day from which cycles draw what it forges, to train or to judge; none: at once.")


class ForgeSettings(Block):
    """Fakes made from the batch's own real clips."""

    RULES = (
        Rule(("plugins",), lambda plugins: len({plugin.name for plugin in plugins}) == len(plugins), "plugins: two share a name"),
        Rule(("forgers",), lambda forgers: len(set(forgers)) == len(forgers), "forgers: one is named twice"),
    )

    forgers: tuple[str, ...] = Field(("self_blend", "landmark_swap"), strict=False, description="Names from the forger registry.")
    fakes_per_real: float = Field(1.0, ge=0, le=10, description="Forged clips a real clip, shared among the forgers; of each forger at most one.")
    max_clips: NotNegative = Field(
        20000,
        description="Most forged clips a batch, of its real clips of every side; a real without one of its own has no pair in training. "
        "By the forgers of `full` a clip costs 0.16 s of a core and as many bytes as its real one, 0.3 MB (20,000: an hour and 6 GB); "
        "in `small` 0.07 s and 0.15 MB.",
    )
    plugins: tuple[PluginSettings, ...] = Field((), strict=False, description="Forgers from outside: exported generators and commands.")
    learn_steps: Positive = Field(600, description="Training steps of each forger that has weights (decoders, portrait, autoencoder swap).")


class AugmentSettings(Block):
    """One draw a clip, the same for each frame, by the same rules for real and fake."""

    RULES = tuple(
        Rule((f"{name}_min", f"{name}_max"), lambda least, most: least <= most, f"{name}_min ({{{name}_min}}) exceeds {name}_max ({{{name}_max}})")
        for name in ("crf", "denoise", "clahe")
    )

    reforge: Fraction = Field(1.0, description="Chance that a stored forgery is made anew, with other numbers, each time it is drawn.")
    flip: Fraction = Field(0.5, description="Chance of a mirrored clip.")
    move_chance: Fraction = Field(0.5, description="Chance of rotation, crop, shift, zoom and shear: the other clips keep pixels that nobody resampled.")
    rotation_degrees: float = Field(15.0, ge=0, le=45, description="Largest rotation, either way.")
    affine: float = Field(0.1, ge=0, le=0.5, description="Largest crop, shift, zoom and shear.")
    brightness: float = Field(0.2, ge=0, le=1, description="Largest relative change.")
    contrast: float = Field(0.2, ge=0, le=1, description="Largest relative change of the spread about mid-grey, the same for a clip and its forgery.")
    saturation: float = Field(0.3, ge=0, le=1, description="Largest relative change of the distance from grey.")
    grey: Fraction = Field(0.0, description="Chance that a clip is shown in black and white, a forgery and its source alike.")
    noise_chance: Fraction = Field(0.5, description="Chance of Gaussian noise.")
    noise_sigma: float = Field(0.1, ge=0, le=0.5, description="Largest sigma of Gaussian noise, on [0,1] pixels.")
    jpeg_quality_min: int = Field(40, ge=5, le=100, description="Lowest JPEG quality drawn; the highest is 100.")
    downscale_min: float = Field(0.4, gt=0, le=1, description="Smallest factor of down-and-up scaling.")
    blur_sigma_max: float = Field(1.5, ge=0, le=10, description="Largest sigma of Gaussian blur, in pixels.")
    motion_blur_px: NotNegative = Field(7, le=31, description="Longest motion blur, in pixels; 0 switches it off.")
    sharpen: float = Field(1.0, ge=0, le=5, description="Strongest unsharp mask, as a camera or an app applies it; 0 switches it off.")
    rare_chance: Fraction = Field(0.15, description="Chance of motion blur, and of sharpening, in a degraded clip.")
    clahe: Fraction = Field(0.05, description="Chance of local contrast equalisation (CLAHE), in a degraded clip.")
    clahe_min: float = Field(1.0, gt=0, le=40, description="Lowest clip limit of CLAHE drawn.")
    clahe_max: float = Field(3.0, gt=0, le=40, description="Highest clip limit of CLAHE drawn.")
    denoise: Fraction = Field(0.1, description="Chance of noise removal that keeps edges, as phones and editors do, in a degraded clip.")
    denoise_min: float = Field(8.0, gt=0, le=255, description="Least difference taken for noise, in 8-bit steps.")
    denoise_max: float = Field(40.0, gt=0, le=255, description="Largest difference taken for noise, in 8-bit steps.")
    h264: Fraction = Field(0.1, description="Part of the degraded clips that meet a codec whose codec is H.264; the others meet JPEG.")
    crf_min: int = Field(18, ge=0, le=51, description="Lowest H.264 crf drawn.")
    crf_max: int = Field(40, ge=0, le=51, description="Highest H.264 crf drawn.")
    degrade: Fraction = Field(
        0.5, description="Chance that a clip goes through scaling, blur, sharpening or a codec at all; at 0 nothing is degraded, sources neither."
    )
    step_chance: Fraction = Field(0.5, description="Chance of scaling, of blur and of a codec, each, in a degraded clip; where none is drawn, a codec.")
    poor_sources: Fraction = Field(
        0.6, description="Chance that a real clip and what its fake is forged from are degraded first, both alike: how good a source was says nothing then."
    )
    poor_reals: Fraction = Field(
        0.0, description="Chance that a real clip alone is degraded once more, since forging softens a picture; `poor_sources` does better."
    )
    tilt_db: float = Field(0.0, ge=0, le=20, description="Spread in dB by which fine detail is weakened or raised, so that sharpness says nothing; 0 is off.")
    tilt_chance: Fraction = Field(0.7, description="Chance of such a tilt.")
    cutout: Fraction = Field(0.15, description="Chance that a part of the face (eyes, nose, mouth, a half) is covered.")
    frequency_mask: Fraction = Field(0.1, description="Chance that part of the spectrum is taken away.")
    frequency_masked: Fraction = Field(0.15, description="Part of the spectrum that is then taken away.")
