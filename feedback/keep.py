"""Media by content: each file lies under its sha256, in the workspace or in an S3 bucket; what is derived of it lies beside, always on disk.

What the disk kept before there was a bucket stays there, and is read there. So does what another bucket kept before (feedback/places.py): whatever is
asked of a file is asked of each place, and a file is gone once none has it.

A file is whole and synced before its name appears, so a name is never half a file. No file name of a client is used. What people
sent, and what was made of it, is for nobody else on this machine: the folders that hold it are closed.
"""

import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feedback.places import Place, note, noted, place
from workspace.errors import DataError, in_one_line
from workspace.files import CHUNK_BYTES, atomic_file, private_folder, sha256_file, sync_folder
from workspace.objectstore import client, is_s3, list_prefix, split_url
from workspace.settings import Settings

LOG = logging.getLogger("vigil.keep")
FOLDER, DERIVED, BEFORE = Path(".vigil/media"), Path(".vigil/derived"), Path(".vigil/cases")
UPLOADS, OUTBOX_FOLDER = Path(".vigil/uploads"), Path(".vigil/outbox")
BORROWED = "media-"  # how folders of `local` begin, in which a file has its hash for a name, and more while it comes
UNSURE = ".unsure"  # what a note is called after the hash
STALE_SECONDS = 3600  # longer than anything takes but a request, see `new_part`
NOT_THERE = ("404", "NoSuchKey", "NotFound")
NO_BUCKET = "NoSuchBucket"
# said of whoever asks, not of the file: credentials that have ended, or were replaced
OUTDATED = ("ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired")
REFUSED = (403, 404, 405, 501)  # of what a store need not offer, or not to everybody
_SHA256 = re.compile(r"[0-9a-f]{64}")


class MediaMissing(DataError):
    """The store does not have a file that is asked for; to ask again does not help."""


class StoreSilent(DataError):
    """The store cannot be reached, or refuses; that says nothing about the file."""

    refused = False  # whether it answers and refuses this file; another it may give or delete


class Hindered(DataError):
    """The machine stood in the way, as where its disk is full; that says nothing about the file."""


def derived_name(detection_id: str, what: str) -> str:
    """The file of what was made for one detection: of the same upload, another mode or policy shows other clips."""
    return f"{detection_id}-{what}"


class MediaStore:
    """The media of one workspace's service. Safe to use from several threads and processes.

    Raises StoreSilent, or MediaMissing, each a DataError.
    """

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root
        self.url, self.endpoint = settings.feedback.media_url, settings.feedback.s3_endpoint_url
        if self.url and not is_s3(self.url):
            raise DataError(f"Cannot keep media at {self.url!r}.", why="feedback.media_url is empty or s3://bucket/prefix", next_step="Mend params.yaml.")
        if (root / BEFORE).is_dir() and not (root / FOLDER).exists():  # as the first service called it
            os.rename(root / BEFORE, root / FOLDER)
        for folder in (FOLDER, DERIVED, UPLOADS, OUTBOX_FOLDER):
            if (root / folder).is_dir():  # as earlier services made them, everybody on the machine could look
                private_folder(root / folder)
        self._buckets: dict[Place, _Bucket] = {}
        self._coming: set[Path] = set()
        self._before: set[Path] = set()  # of services before this one

    def begin_service(self) -> None:
        """Know what services alone make, and lies here already, for leftovers of one that was killed, whatever their age: there is one at a time."""
        self._before = set(self._of_services())
        if self.url:
            self._note_today()  # what an earlier Vigil stored there

    def put(self, path: Path, sha256: str) -> None:
        """Keep a copy of the file; durable when this returns. Again is harmless, and heals one on this disk that was damaged since."""
        if self.url:
            bucket = self._today()
            if bucket.lacks(sha256):
                self._note_today()  # before it: whatever ends this process, the place is known
                bucket.put(path, sha256)
                self._note_today(answered=True)
            if not self._path(sha256).is_file():
                return
        kept = self._path(sha256)
        with suppress(OSError):  # not there, gone in this moment, or not to be read any more
            if sha256_file(kept) == sha256:
                return
        private_folder(kept.parent)
        with atomic_file(kept, "wb") as handle, open(path, "rb") as source:
            shutil.copyfileobj(source, handle, CHUNK_BYTES)
        sync_folder(kept.parent)

    def has(self, sha256: str) -> bool:
        """Whether the media are kept."""
        if self._path(sha256).is_file():
            return True
        return any(bucket.has(sha256) for bucket in self._places())

    def lies(self, sha256: str) -> bool:
        """Whether anything is there of a file: its media, also where they were kept before there was a bucket, or what was made of them."""
        return self._path(sha256).exists() or self.derived(sha256).exists() or self.has(sha256)

    @contextmanager
    def local(self, sha256: str) -> Iterator[Path]:
        """The path of a readable local file, for the length of the block."""
        kept = self._path(sha256)
        if kept.is_file():
            yield kept
            return
        places = self._places()
        if not places:
            raise _missing(sha256, "there is no such file in .vigil/media")
        with tempfile.TemporaryDirectory(prefix=BORROWED, dir=self.scratch()) as folder:
            path = Path(folder) / sha256
            for bucket in places[:-1]:
                with suppress(MediaMissing):
                    bucket.fetch(sha256, path)
                    break
            else:
                places[-1].fetch(sha256, path)
            yield path

    def delete(self, sha256: str) -> None:
        """Remove the media, wherever they were kept, and everything derived of them. Again is harmless.

        Raises StoreSilent where one place does not answer: then they are not gone.
        """
        for bucket in reversed(self._places()):  # today's last: where one of before does not answer, the file can still be read
            bucket.delete(sha256)
        self.delete_here(sha256)

    def delete_here(self, sha256: str) -> None:
        """Remove what the workspace itself has of a file; its bucket is not asked. Again is harmless."""
        self._path(sha256).unlink(missing_ok=True)
        for borrowed in (self.root / UPLOADS).glob(f"{BORROWED}*/{sha256}*"):  # also by who was killed meanwhile
            borrowed.unlink(missing_ok=True)
        shutil.rmtree(self.derived(sha256), ignore_errors=True)

    def abort_parts(self, sha256: str) -> None:
        """Remove the parts that a killed process has left in a bucket of a file that it was storing; they are in no list of what is stored."""
        for bucket in self._places():
            bucket.abort_parts(sha256)

    def lying_in_buckets(self) -> set[str]:
        """The files of which a bucket has the media; of one that cannot be listed nothing is known, which is logged."""
        found: set[str] = set()
        for bucket in self._places():
            try:
                found |= bucket.files()
            except DataError as problem:
                LOG.warning("whether deleted media are in the bucket again is not known: %s", in_one_line(problem))
        return found

    def former(self) -> Iterator[tuple[str, bool | None]]:
        """The buckets of before, each with whether it holds media still; None where it does not answer."""
        for bucket in self._places()[1 if self.url else 0 :]:
            yield bucket.url, bucket.holds_some()

    def delete_derived(self, sha256: str, detection_id: str) -> None:
        """Remove what was derived of the media for one detection; the media stay. Again is harmless."""
        for path in self.derived(sha256).glob(derived_name(detection_id, "*")):
            path.unlink(missing_ok=True)

    def remember(self, sha256: str) -> None:
        """Note a file that is to be looked at again with the leftovers: nobody could say whether it is to be kept."""
        (self.scratch() / f"{_checked(sha256)}{UNSURE}").touch()

    def new_part(self) -> tuple[int, Path]:
        """A new, open file for what is on its way in; however long that takes, it is no leftover before `drop_part`."""
        descriptor, name = tempfile.mkstemp(dir=self.scratch(), suffix=".part")
        self._coming.add(Path(name))
        return descriptor, Path(name)

    def drop_part(self, path: Path) -> None:
        """Remove a file of `new_part`; one that cannot be is a leftover from now on."""
        self._coming.discard(path)
        path.unlink(missing_ok=True)

    def leftovers(self, older_than_seconds: float = STALE_SECONDS) -> list[Path]:
        """What killed processes left, and what was noted: so old, or of a service before this one. For a service, or where none runs."""
        left = [*self._of_services(), *(self.root / UPLOADS).glob(f"{BORROWED}*"), *(self.root / UPLOADS).glob(f"*{UNSURE}")]
        old = []
        for path in left:
            with suppress(FileNotFoundError):  # it was no leftover: its request has just ended
                if path in self._before or (path not in self._coming and time.time() - path.stat().st_mtime > older_than_seconds):
                    old.append(path)
        return old

    def derived(self, sha256: str) -> Path:
        """The folder for thumbnails, heatmaps and timelines, see `derived_name`; it need not exist."""
        return self.root / DERIVED / _checked(sha256)

    def make_derived(self, sha256: str) -> Path:
        """The same, made where there is none."""
        folder = private_folder(self.root / DERIVED) / _checked(sha256)
        folder.mkdir(exist_ok=True)
        return folder

    # -- inside -------------------------------------------------------------------------------------------------------------
    def _of_services(self) -> list[Path]:
        """What services alone make, and remove again: uploads on their way in, folders of gathered media, copies that were not finished."""
        return [*(self.root / UPLOADS).glob("*.part"), *(self.root / UPLOADS).glob("gathered-*"), *(self.root / FOLDER).glob(".*.tmp")]

    def _path(self, sha256: str) -> Path:
        return self.root / FOLDER / _checked(sha256)

    def scratch(self) -> Path:
        """A folder for files that are not kept yet, on the disk of the workspace."""
        return private_folder(self.root / UPLOADS)

    def _today(self) -> "_Bucket":
        return self._bucket(Place(self.url, self.endpoint), former=False)

    def _places(self) -> list["_Bucket"]:
        """Today's bucket, where there is one, then those of before, as they are noted now."""
        today = place(self.url, self.endpoint)
        former = [self._bucket(one, former=True) for one in reversed(noted(self.root)) if one != today]
        return [self._today(), *former] if self.url else former

    def _bucket(self, at: Place, former: bool) -> "_Bucket":
        if at not in self._buckets:
            self._buckets[at] = _Bucket(at.url, at.endpoint, former)
        return self._buckets[at]

    def _note_today(self, answered: bool = False) -> None:
        """Note today's bucket, once it has answered: one whose name is mistyped would be asked for ever."""
        today = place(self.url, self.endpoint)
        if today not in noted(self.root) and (answered or self._today().answers()):
            note(self.root, today)


class _Bucket:
    """One bucket with a prefix, in which media lie by content. `former`: media were kept there before, and none comes any more."""

    def __init__(self, url: str, endpoint: str, former: bool) -> None:
        self.url, self.endpoint, self.former = url, endpoint, former
        self._clients: dict[bool, Any] = {}

    def answers(self) -> bool:
        """Whether the store answers, and has the bucket."""
        from botocore.exceptions import BotoCoreError

        try:
            return self._has_bucket()
        except BotoCoreError:
            return False

    def lacks(self, sha256: str) -> bool:
        """Whether a file is still to be stored; whether the bucket itself is there, storing tells."""
        with self._asked(sha256):
            return not self._in_bucket(sha256)

    def has(self, sha256: str) -> bool:
        """Whether the file is there."""
        bucket, key = self._key(sha256)
        with suppress(MediaMissing), self._asked(sha256):
            self._s3(quick=True).head_object(Bucket=bucket, Key=key)
            return True
        return False

    def put(self, path: Path, sha256: str) -> None:
        """Store a file."""
        with self._asked(sha256):
            self._s3().upload_file(str(path), *self._key(sha256))

    def fetch(self, sha256: str, to: Path) -> None:
        """Have a file as `to`."""
        with self._asked(sha256):
            try:
                self._s3().download_file(*self._key(sha256), str(to))
            except FileNotFoundError as problem:
                if self.has(sha256):
                    raise
                raise _missing(sha256, "it was deleted in this moment") from problem

    def delete(self, sha256: str) -> None:
        """Remove a file, and parts of it. Again is harmless."""
        with suppress(MediaMissing), self._asked(sha256):  # not every store answers as S3, which does not say that there was none
            bucket, key = self._key(sha256)
            self._s3(quick=True).delete_object(Bucket=bucket, Key=key)
        self.abort_parts(sha256)

    def abort_parts(self, sha256: str) -> None:
        """Remove the parts that a killed process has left of a file."""
        from botocore.exceptions import ClientError

        (bucket, key), store = self._key(sha256), self._s3(quick=True)
        stale = datetime.now(UTC) - timedelta(seconds=STALE_SECONDS)  # a younger one may be going on
        with self._asked(sha256):
            try:
                for upload in store.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", []):
                    if upload["Key"] == key and upload["Initiated"] < stale:
                        store.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload["UploadId"])
            except ClientError as problem:
                if problem.response["ResponseMetadata"]["HTTPStatusCode"] not in REFUSED or _code(problem) in (NO_BUCKET, *OUTDATED):
                    raise
                LOG.warning("%s: whether parts of %s were left there is not told: %s", self.url, sha256[:12], problem)

    def files(self) -> set[str]:
        """The files that are there. Raises DataError where they cannot be listed."""
        return _named_by_content(item.key for item in list_prefix(f"{self.url.rstrip('/')}/", self.endpoint, flat=True))

    def holds_some(self) -> bool | None:
        """Whether some file is among the first names there; None where that is not told."""
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, prefix = split_url(f"{self.url.rstrip('/')}/")
        try:
            found = self._s3(quick=True).list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/").get("Contents", [])
        except (BotoCoreError, ClientError) as problem:
            LOG.warning("%s: %s", self.url, problem)
            return None
        return bool(_named_by_content(item["Key"] for item in found))

    # -- inside -------------------------------------------------------------------------------------------------------------
    def _key(self, sha256: str) -> tuple[str, str]:
        bucket, prefix = split_url(self.url)
        return bucket, f"{prefix.rstrip('/')}/{_checked(sha256)}".lstrip("/")

    def _s3(self, quick: bool = False) -> Any:
        """`quick`: for questions, and for what is deleted, which is done while the database's write lock is held."""
        clients = self._clients
        if quick not in clients:
            clients[quick] = client(self.endpoint, quick)
        return clients[quick]

    def _in_bucket(self, sha256: str) -> bool:
        """Whether it need not be stored, see `lacks`."""
        from botocore.exceptions import ClientError

        bucket, key = self._key(sha256)
        try:
            self._s3(quick=True).head_object(Bucket=bucket, Key=key)
        except ClientError as problem:
            if _code(problem) in NOT_THERE:
                return False
            raise
        return True

    def _has_bucket(self) -> bool:
        """Whether the bucket itself is there: to HEAD a store says the same of a file that it lacks and of all in a bucket that is away."""
        from botocore.exceptions import ClientError

        try:
            self._s3(quick=True).head_bucket(Bucket=split_url(self.url)[0])
        except ClientError as problem:
            return _code(problem) not in NOT_THERE
        return True

    @contextmanager
    def _asked(self, sha256: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            try:
                yield
            except ClientError as problem:
                if _code(problem) in NOT_THERE and self._has_bucket():
                    raise _missing(sha256, "the store has no such file") from problem
                raise
        except (Boto3Error, BotoCoreError, ClientError) as problem:
            LOG.warning("%s: %s", self.url, problem)  # names addresses that are not for everybody who is told of it
            cause = problem.__context__ if isinstance(problem, Boto3Error) and isinstance(problem.__context__, ClientError) else problem
            silent = _silent(sha256, cause, self.former)
            if _code(cause) != "AccessDenied":  # it may be the credentials: a HEAD is told no reason; whoever asks next reads the shared files anew
                self._clients = {}
            raise silent from problem


def _code(problem: Exception) -> str:
    """What a store calls its refusal; '' of what is none."""
    from botocore.exceptions import ClientError

    return str(problem.response.get("Error", {}).get("Code", "")) if isinstance(problem, ClientError) else ""


def _silent(sha256: str, problem: Exception, former: bool) -> StoreSilent:
    from botocore.exceptions import ClientError

    code, status = _code(problem), problem.response["ResponseMetadata"]["HTTPStatusCode"] if isinstance(problem, ClientError) else 0
    gone, refused = code in (*NOT_THERE, NO_BUCKET), 400 <= status < 500  # a file alone that is not there is MediaMissing
    why = "has no bucket of the name that feedback.media_url gives" if gone else "refuses it" if refused else "does not answer"
    next_step = "Try again; see whether the store answers, has the bucket, and takes the credentials of the service."
    store = "the store of the media"
    if former:
        store = "a store in which media were kept before, and may lie still,"
        why = "has no bucket of that name" if gone else why
        next_step = f"{next_step} `vigil doctor` names it, and forgets it where it is given up."
    silent = StoreSilent(f"The media {sha256[:12]} cannot be had.", why=f"{store} {why}", next_step=next_step)
    silent.refused = refused and not gone and code not in OUTDATED
    return silent


@contextmanager
def one_of_many(name: str, stuck: list[str]) -> Iterator[None]:
    """Delete one file of several: one that cannot be deleted keeps no other, and is put into `stuck` with the reason.

    Raises StoreSilent where the store does not answer: it is not waited for once a file.
    """
    try:
        yield
    except (StoreSilent, OSError) as problem:
        if isinstance(problem, StoreSilent) and not problem.refused:
            raise
        stuck.append(f"{name} ({in_one_line(problem)})")


def lying_here(root: Path) -> set[str]:
    """The files of which the workspace itself has the media, or what was made of them."""
    return {path.name for folder in (FOLDER, DERIVED) if (root / folder).is_dir() for path in (root / folder).iterdir() if _SHA256.fullmatch(path.name)}


def _named_by_content(keys: Iterable[str]) -> set[str]:
    return {name for key in keys if _SHA256.fullmatch(name := key.rpartition("/")[2])}


def _missing(sha256: str, why: str) -> MediaMissing:
    return MediaMissing(f"The media {sha256[:12]} cannot be had.", why=why, next_step="Put the file back, named by its hash.")


def _checked(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256[:80]!r} is no sha256")
    return sha256
