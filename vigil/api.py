"""What the command line does, for Python: `Detector` scores, `open_workspace` gives a workspace whose verbs are methods (docs/python.md).

Thin on purpose: each method calls what its verb calls, and raises what its verb prints (workspace/errors.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workspace.state import Champion

if TYPE_CHECKING:
    from model.inference import FileVerdict
    from pipelines.intake import IngestReport
    from workspace.settings import Settings

MOST_THREADS = 1024  # as many are begun, each with a stack of its own, whatever the machine has

Media = str | Path | bytes | NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Interval:
    """A clip that was judged: seconds from the start, which face (from 1), how likely it is forged."""

    start_seconds: float
    end_seconds: float
    face: int
    p_fake: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector says of one file. `p_fake` is None, and `reason` says why, exactly where `verdict` is 'none'."""

    file: str
    p_fake: float | None  # 0..1; 1 means fake
    verdict: str  # real | fake | uncertain | none
    reason: str
    kind: str  # video | image | ''
    frames: int  # looked at
    faces: int  # people followed
    intervals: tuple[Interval, ...]
    model: str  # first 12 digits of the model's sha256
    promoted: bool  # whether the gates of a workspace vouch for it, or a person who imported it

    @property
    def worst(self) -> Interval | None:
        """The interval that looks most forged; None without one."""
        return max(self.intervals, key=lambda one: one.p_fake, default=None)


class Detector:
    """A model, ready to score. Safe to use from several threads.

    `source` is a workspace (its champion, else its latest candidate), the folder of a model, or None for the model that comes with Vigil.
    `fpr` judges at the model's operating point for that false-positive rate. Raises WorkspaceError or ModelFileError where there is none,
    ValueError for a number of threads that cannot be, and TypeError for a rate that is no number.
    """

    def __init__(self, source: "str | Path | Workspace | None" = None, *, fpr: float | None = None, threads: int = 2) -> None:
        from workspace.quiet import set_quiet_environment

        if not 1 <= index(threads) <= MOST_THREADS:
            raise ValueError(f"threads must be from 1 to {MOST_THREADS}, got {threads}")
        if fpr is not None and not isinstance(fpr, Real):
            raise TypeError(f"fpr is a number, got {fpr!r}")
        set_quiet_environment()
        from model.inference import Engine

        folder, self.mark = _model_of(source)
        self._engine = Engine(folder, threads=threads)
        self.promoted = self.mark == "" and not _is_model(source)
        if fpr is not None:
            self._engine.at_fpr(fpr)

    @property
    def model(self) -> str:
        """First 12 digits of the model's sha256."""
        return self._engine.model_id

    @property
    def threshold(self) -> float:
        """On p_fake: from about here on a file is called fake."""
        return self._engine.card.threshold

    def score(self, media: Media, *, mode: str | None = None, name: str | None = None) -> Verdict:
        """The verdict on an image or a video: a path, its bytes, or an RGB picture [H, W, 3] uint8.

        `mode` (dense, standard, fast) says how densely a video is looked at; `name` is what the verdict calls it. Whatever is wrong with a
        file, there is a verdict, 'none' with a reason at the least. Raises TypeError for an array that is no picture, ValueError for another mode.
        """
        from workspace.settings import check_mode

        check_mode(mode or "")
        source = _picture(media) if isinstance(media, np.ndarray) else media if isinstance(media, bytes) else Path(media)
        return self._told(self._engine.score_file(source, mode or None, name))

    def score_clip(self, frames: NDArray[np.uint8]) -> float:
        """p_fake of one aligned face clip [T, S, S, 3] uint8 RGB, as `media.faces.extract_clips` cuts them; S is the model's.

        Raises TypeError for what is no array, ValueError for another shape.
        """
        if not isinstance(frames, np.ndarray):
            raise TypeError(f"a clip is an array [T, S, S, 3], got {type(frames).__name__}")
        return self._engine.score_clips([frames])[0].p_fake

    def _told(self, said: "FileVerdict") -> Verdict:
        intervals = tuple(Interval(row["start_seconds"], row["end_seconds"], row["track"] + 1, row["p_fake"]) for row in said.clips)
        return Verdict(said.file, said.p_fake, said.verdict, said.told, said.kind, said.frames, said.faces, intervals, said.model, self.promoted)


class Workspace:
    """A workspace on disk. Nothing is kept between calls: what another process has changed is seen."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def settings(self) -> "Settings":
        """params.yaml, read now. Raises SettingsError."""
        from workspace.settings import load_settings

        return load_settings(self.root / "params.yaml")

    @property
    def champion(self) -> Champion | None:
        """The model that serves, as the journal says; None before the first promotion."""
        from workspace.journal import Journal
        from workspace.state import champion

        return champion(Journal(self.root).events())

    def detector(self, **options: Any) -> Detector:
        """The champion, ready to score."""
        return Detector(self, **options)

    def status(self) -> dict[str, Any]:
        """What `vigil status --json` prints."""
        from vigil.reading import status_of

        return status_of(self.root, self.settings)

    def batches(self) -> list[dict[str, Any]]:
        """What `vigil batches --json` prints."""
        from vigil.reading import batch_rows

        return batch_rows(self.root)

    def models(self) -> list[dict[str, Any]]:
        """What `vigil models --json` prints."""
        from vigil.reading import model_rows

        return model_rows(self.root)

    def ingest(
        self, *sources: str | Path, layout: str = "auto", identity: str = "", name: str = "", labels: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> list["IngestReport"]:
        """Take in what is new, as `vigil ingest` with the options of these names does; a report a source. Without sources: those of params.yaml.

        Raises ValueError for an option that cannot be, TypeError for one text where a list is wanted, DataError for a source that cannot be read
        where it is the only one; of several, the report of each says in `problems` why it was not taken in.
        """
        import typer

        from vigil.taking_in import ingest_sources, named_sources

        for option, words in (("labels", labels), ("columns", columns)):
            if isinstance(words, str):
                raise TypeError(f"{option} is a list, such as [{words!r}]")
        try:
            named = named_sources([str(one) for one in sources], layout, identity, name, list(labels), list(columns))
        except typer.BadParameter as problem:
            raise ValueError(problem.message) from problem
        return ingest_sources(self.root, self.settings, named, must_be_there=True)

    def set_batch(self, batch: str, state: str, *, who: str, why: str, again: bool = False) -> None:
        """Accept, hold or drop a batch (`accepted`, `held`, `dropped`). Raises WorkspaceError while a cycle judges it, TypeError for what is no text.

        `again`: the next ingest takes in what a dropped batch holds, as its source says it by then.
        """
        from vigil.deciding import set_batch_state

        for option, words in (("batch", batch), ("state", state), ("who", who), ("why", why)):
            if not isinstance(words, str):
                raise TypeError(f"{option} is text, got {words!r}")
        set_batch_state(self.root, batch, state, who, why, again)

    def retrain(self, *, scheduled: bool = False, force: bool = False, dry_run: bool = False) -> dict[str, Any]:
        """Run one cycle as `vigil retrain` does; its outcome (`promoted`, `held`, `nothing new`). With `dry_run` what would run, and why."""
        from vigil.cycles import rehearse, run_cycle

        if dry_run:
            return rehearse(self.root, self.settings, force).as_dict()
        return run_cycle(self.root, self.settings, scheduled=scheduled, force=force)

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"


def open_workspace(path: str | Path, *, profile: str | None = None) -> Workspace:
    """The workspace at or around `path`. With `profile` (full, small, demo) the one at `path` itself, made first if there is none.

    Raises WorkspaceError where there is none, or where it is of another format (`vigil upgrade`).
    """
    from workspace.layout import require_workspace
    from workspace.quiet import set_quiet_environment

    set_quiet_environment()
    if profile is not None:
        from vigil.opening import open_workspace as make

        make(Path(path), profile)
    return Workspace(require_workspace(Path(path)).root)


def _is_model(source: "str | Path | Workspace | None") -> bool:
    return isinstance(source, str | Path) and (Path(source) / "card.json").is_file()


def _model_of(source: "str | Path | Workspace | None") -> tuple[Path, str]:
    from model.shipped import STARTER, has_starter
    from vigil.scoring import choose_model
    from workspace.errors import ModelFileError

    if source is None:
        if not has_starter():
            raise ModelFileError("There is no starter model here.", why="this installation leaves it out", next_step="Name a workspace or a model's folder.")
        return STARTER, "starter"
    if isinstance(source, Workspace):
        return choose_model(source.root, None)
    return (Path(source), "") if _is_model(source) else choose_model(Path(source), None)


def _picture(pixels: NDArray[np.uint8]) -> bytes:
    """An RGB array as a file without loss."""
    import cv2

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise TypeError(f"a picture is uint8 [H, W, 3] in RGB, got {pixels.dtype} {list(pixels.shape)}")
    done, content = cv2.imencode(".png", pixels[:, :, ::-1])
    if not done:
        raise TypeError(f"a picture of {list(pixels.shape)} cannot be used")
    return bytes(content)
