"""What `vigil sample` makes sure of around the rendering: a folder holds the people of one seed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workspace.errors import DataError
from workspace.files import atomic_file

NOTE = "seed.txt"  # beside labels.csv


@contextmanager
def one_seed(folder: Path, seed: int) -> Iterator[None]:
    """Render within it. Names of clips tell person and take, not the seed: those of another one would replace them, and labels name two people as one.

    Raises DataError where the folder notes another seed. One that an earlier Vigil filled notes none, and is not noted as of this one.
    """
    is_new = not any(folder.rglob("*.mp4"))
    noted = _noted(folder)
    if not is_new and noted not in ("", str(seed)):
        raise DataError(
            f"{folder} holds people of seed {noted}. Nothing was written.", why=f"seed {seed} draws others, whose clips have the same names",
            next_step=f"Name another folder, or add to this one with --seed {noted}.",
        )  # fmt: skip
    if is_new:  # before the first clip: a rendering that is stopped goes on with this seed
        with atomic_file(folder / NOTE) as handle:
            handle.write(f"{seed}\n")
    yield


def _noted(folder: Path) -> str:
    try:
        return (folder / NOTE).read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
