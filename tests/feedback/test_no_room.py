"""A full disk, and one that is closed to writing: whatever was to be written, the answer is one that clients send again, and nothing half stays."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from feedback.keep import UNSURE
from tests.feedback.conftest import Service, running
from tests.feedback.test_service import is_problem

OF_OUR_OWN = ("unshare", "--map-root-user", "--mount")  # a view of the disks in which this user may mount
SMALL_KB = 600
DISKS = 'for each in uploads media derived; do mount -t tmpfs -o size={}k tmpfs .vigil/$each; done; exec "$@"'


@contextmanager
def on_small_disks(root: Path, model: Path) -> Iterator["Disks"]:
    """The service with a small disk of its own under each folder that it writes files in; skips where the system lets an ordinary user mount nothing."""
    if subprocess.run([*OF_OUR_OWN, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this system lets an ordinary user mount nothing of their own")
    for folder in ("uploads", "media", "derived"):
        (root / ".vigil" / folder).mkdir(mode=0o700)
    mounting = (*OF_OUR_OWN, "sh", "-ec", DISKS.format(SMALL_KB), "sh")
    with running(root, "--model-dir", str(model), before=mounting) as service:
        service.until_ready()
        yield Disks(service)


class Disks:
    """The small disks of a service, which are to be seen in its own view of the system alone."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def folder(self, name: str) -> Path:
        """A disk's folder, seen from here."""
        return Path(f"/proc/{self.service.process.pid}/root{self.service.root}/.vigil/{name}")

    def fill(self, name: str, left_kb: int = 0) -> None:
        """Fill a disk but for so much."""
        filling = self.folder(name) / "filling"
        with pytest.raises(OSError, match="No space left"), open(filling, "wb", buffering=0) as handle:
            while True:
                handle.write(bytes(1024))
        with open(filling, "r+b") as handle:
            handle.truncate(max(filling.stat().st_size - 1024 * left_kb, 0))

    def empty(self, name: str) -> None:
        """Give the room back."""
        (self.folder(name) / "filling").unlink()

    def close(self, name: str, how: str = "ro") -> None:
        """Close a disk to writing, or open it (`rw`)."""
        inside = ["nsenter", "--target", str(self.service.process.pid), "--user", "--mount", "--preserve-credentials"]
        subprocess.run([*inside, "mount", "-o", f"remount,bind,{how}", f"{self.service.root}/.vigil/{name}"], check=True)

    def names(self, name: str) -> list[str]:
        """What lies on a disk, beside what fills it."""
        return sorted(path.name for path in self.folder(name).iterdir() if path.name != "filling")


def comes_again(answer: httpx.Response) -> dict[str, Any]:
    """The body of a refusal that feedback/client.py sends again."""
    told = is_problem(answer, 503)
    assert answer.headers["retry-after"] == "30", answer.headers
    return told


def test_an_upload_that_finds_no_room_is_to_be_sent_again_wherever_it_finds_none(root: Path, models: tuple[Path, Path], picture: bytes) -> None:
    """503 came where the file itself met the full disk; where its copy did, or a folder was closed to writing, it was 500, which no client sends again."""
    large = picture + bytes(200_000)
    with on_small_disks(root, models[0]) as disks:
        service = disks.service
        for name, lacking in (("uploads", "no room"), ("media", "no room"), ("uploads", "closed"), ("media", "closed")):
            disks.fill(name, left_kb=100) if lacking == "no room" else disks.close(name)
            for sent in (large, picture) if lacking == "closed" else (large,):
                told = comes_again(service.detect(sent, wait=0))
                assert (told["detail"], told["next_step"]) == ("There is no room on the disk of the service now.", "Send it again later."), (name, lacking)
            disks.empty(name) if lacking == "no room" else disks.close(name, "rw")
            left = [file for file in disks.names("uploads") if not file.endswith(UNSURE)]  # what could not be looked for is noted
            assert left == [] == disks.names("media"), f"{name}: nothing half stays"
            verdict = service.detect(large + f"{name} {lacking}".encode()).json()
            assert verdict["state"] == "done", "where there is room again, all is as before"
            assert service.client.delete(f"/v1/detections/{verdict['id']}").status_code == 200
        log = service.log.read_text()
    assert "Traceback" not in log and log.count("WARNING") >= 6, log


@pytest.mark.slow
def test_many_small_bytes_that_are_written_as_the_file_ends_find_no_room_either(root: Path, models: tuple[Path, Path]) -> None:
    """A file that fits the buffer is written when its part ends."""
    with on_small_disks(root, models[0]) as disks:
        disks.fill("uploads")
        comes_again(disks.service.detect(b"small", wait=0))
        assert all((disks.folder("uploads") / name).stat().st_size == 0 for name in disks.names("uploads"))
        assert "Traceback" not in disks.service.log.read_text()


@pytest.mark.slow
def test_an_explanation_that_finds_no_room_may_be_asked_for_again(root: Path, models: tuple[Path, Path], picture: bytes) -> None:
    """It was 409, final."""
    with on_small_disks(root, models[0]) as disks:
        verdict = disks.service.detect(picture).json()
        page = f"/v1/detections/{verdict['id']}/explanation"
        disks.fill("derived")
        told = comes_again(disks.service.client.get(page, timeout=120))
        assert told["detail"] == "The explanation could not be made. there is no room on the disk of the service now"
        disks.empty("derived")
        disks.close("derived")
        comes_again(disks.service.client.get(page, timeout=120))
        disks.close("derived", "rw")
        assert disks.service.client.get(page, timeout=120).status_code == 200
