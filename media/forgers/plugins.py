"""Forgers from outside: an image generator (media/forgers/generators.py), or any command that turns a clip into a clip.

Command: started in an empty folder of its own in the workspace with `{input}` and `{output}` in its words replaced by folders. The input
holds 00000.png, 00001.png ...; the output must hold PNGs of the same names and size. It sees no variable of ours but PATH, has
bounded memory, file size and time, and ends with its whole group; where the system lets us, no network, and children that left the group
end too. It runs as whoever runs us and can read and write what they can: only programs that are trusted belong here.

Of either, a clip of which more than a frame in ten comes back as good as it went in is refused: it would be real under the label fake. Generators that come
with the installation have names of their own, `PUBLISHED`.
"""

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from media.forgers.generators import ExportedGenerator, Outside
from media.forgers.registry import Clip, Frames, Landmarks
from media.forgers.stylegan import MobileStyleGan
from workspace.errors import DataError, first_few, printable
from workspace.files import private_folder
from workspace.processes import without_network
from workspace.quiet import ALONE
from workspace.settings import FaceSettings, PluginSettings

PUBLISHED = {MobileStyleGan.name: MobileStyleGan}
MEMORY_BYTES, FILE_BYTES = 8 << 30, 1 << 30
LAST_WORDS_BYTES = 300  # of what a program said, for the reason


class Command(Outside):
    """A program that forges; each clip in a folder of its own in `folder`. Raises DataError where it cannot be found."""

    def __init__(self, settings: PluginSettings, folder: Path) -> None:
        self.name, self.settings, self.folder = settings.name, settings, folder.resolve()
        program = shutil.which(settings.command[0])
        why = "" if program else f"there is no program {settings.command[0]!r}"
        if program and "/" in settings.command[0] and not os.path.isabs(settings.command[0]):
            why = f"{settings.command[0]!r} is seen from a folder, and each clip is forged in one of its own"
        if why:
            raise DataError(
                f"Cannot use the forger {settings.name!r}.", why=why, next_step="Name its program by the whole path in forge.plugins, or install it."
            )

    def _forge(self, frames: Frames, landmarks: Landmarks, rng: np.random.Generator) -> Clip:
        """What the program made of the clip; landmarks stay. Raises DataError when it fails, is too slow or gives something else."""
        # a child that left the group may still write: what it leaves goes with the next run
        with tempfile.TemporaryDirectory(dir=private_folder(self.folder), ignore_cleanup_errors=True) as scratch:
            given, made = Path(scratch) / "in", Path(scratch) / "out"
            for folder in (given, made):
                folder.mkdir()
            for name, frame in zip(_names(len(frames)), frames, strict=True):
                cv2.imwrite(str(given / name), np.ascontiguousarray(frame[..., ::-1]))
            places = {"{input}": str(given), "{output}": str(made), "{seed}": str(int(rng.integers(2**31)))}
            self._run([_filled(word, places) for word in self.settings.command], Path(scratch))
            return self._read(made, frames.shape), np.array(landmarks)

    def _run(self, words: Sequence[str], scratch: Path) -> None:
        what, next_step = f"The forger {self.name!r} failed on a clip.", "Try it by hand on a folder of PNGs."
        try:
            code, last = self._outcome(words, scratch)
        except (OSError, subprocess.SubprocessError) as problem:  # it cannot be started within its bounds, or took its own folder away
            raise DataError(what, why=f"{type(problem).__name__}: {problem}"[:300], next_step=next_step) from problem
        if code != 0:
            why = f"it took longer than {self.settings.timeout_seconds} s" if code is None else f"it ended with {code}: {last}"
            raise DataError(what, why=why, next_step=next_step)

    def _outcome(self, words: Sequence[str], scratch: Path) -> tuple[int | None, str]:
        """The program's exit code, None where its time was over, and its last words."""
        with tempfile.TemporaryDirectory() as near, open(scratch / "said", "w+b") as said:  # read by its handle: the program may have emptied the folder
            short = Path(near) / "t"  # a link that holds nothing: the path of a socket has 107 bytes at most, and the workspace may lie deep
            short.symlink_to(scratch)
            environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(scratch), "TMPDIR": str(short), "LC_ALL": "C.UTF-8", **ALONE}
            process = subprocess.Popen(
                [*without_network(with_its_children=True), *words],
                cwd=scratch,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                preexec_fn=_bounded,
            )
            try:
                code = process.wait(self.settings.timeout_seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end_group(process)
            said.seek(max(0, said.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
            return code, said.read().decode(errors="replace").strip()

    def _read(self, made: Path, shape: tuple[int, ...]) -> Frames:
        what = f"The forger {self.name!r} gave something else."
        wanted, found = _names(shape[0]), sorted(path.name for path in made.glob("*.png"))
        if found != wanted:
            lost, odd = ([name for name in one if name not in other] for one, other in ((wanted, found), (found, wanted)))
            why = f"{len(found)} PNGs, wanted {len(wanted)}; expected and missing: {_few(lost)}; found and not expected: {_few(odd)}"
            raise DataError(what, why=why, next_step="Let it write a PNG for each one it was given, under the same name.")
        if odd := [name for name in wanted if not (made / name).is_file()]:  # a pipe would be waited for without end
            raise DataError(what, why=f"{_few(odd)}: no ordinary file", next_step="Let it write ordinary PNGs.")
        try:
            pictures = [cv2.imread(str(made / name), cv2.IMREAD_COLOR) for name in wanted]
        except cv2.error as problem:
            why = f"a picture that cannot be read: {problem}"[:300]
            raise DataError(what, why=why, next_step="Let it write ordinary PNGs.") from problem
        if any(picture is None or picture.shape != shape[1:] for picture in pictures):
            why = f"a PNG cannot be read or is not {shape[2]} x {shape[1]}"
            raise DataError(what, why=why, next_step="Let it write ordinary PNGs of the size that it was given.")
        return np.stack([picture[..., ::-1] for picture in pictures if picture is not None]).astype(np.uint8)


def load_plugin(settings: PluginSettings, faces: FaceSettings, folder: Path) -> Outside:
    """The forger that a setting describes; a command forges in `folder`, which a killed process leaves with crops in it."""
    return ExportedGenerator(settings.name, Path(settings.onnx), faces) if settings.onnx else Command(settings, folder)


def _names(number: int) -> list[str]:
    """Names of the PNGs of so many frames, in order."""
    return [f"{place:05d}.png" for place in range(number)]


def _few(names: Sequence[str]) -> str:
    return printable(first_few(names)) or "none"


def _filled(word: str, places: Mapping[str, str]) -> str:
    for name, value in places.items():
        word = word.replace(name, value)
    return word


def _bounded() -> None:
    """Runs in the child before the program: its memory and the files it writes are bounded, and it leaves no core."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()
