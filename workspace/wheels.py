"""Files of other people's wheels that are used without importing their code: found through the wheel's metadata, checked by hash, read once."""

from pathlib import Path

from workspace.errors import ModelFileError
from workspace.files import sha256_bytes

REINSTALL = "Run `make clean setup`, which fetches every package anew; in a container, build the image again"


def file_of_wheel(wheel: str, path: str) -> Path | None:
    """Where a file of an installed wheel lies; None where wheel or file is missing."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = Path(str(distribution(wheel).locate_file(path)))
    except PackageNotFoundError:
        return None
    return found if found.is_file() else None


def published(wheel: str, path: str, sha256: str, what: str, instead: str = "") -> bytes:
    """The content of a wheel's file, which is the very one that was published.

    `what` it is, for a person; `instead`: what to do where it is not to be had, ahead of the full stop. Raises ModelFileError where it
    is missing, cannot be read or is another file.
    """
    found = file_of_wheel(wheel, path)
    if found is None:
        raise ModelFileError(f"{what} are not installed.", why=f"{path} of the package {wheel} is missing", next_step=f"{REINSTALL}{instead}.")
    try:
        content = found.read_bytes()
    except OSError as problem:
        raise ModelFileError(f"Cannot read {found}.", why=str(problem), next_step="Let whoever runs Vigil read it.") from problem
    if sha256_bytes(content) != sha256:
        raise ModelFileError(f"Refused {found}. Nothing was loaded.", why="it is not the file that was published", next_step=f"{REINSTALL}.")
    return content
