"""Media in an object store: list a prefix and fetch it, in parallel, resumed where it broke off, checked at the end.

Addresses are `s3://bucket/prefix`; any S3-compatible endpoint works. Credentials come from boto3's standard chain
(environment, shared files, instance role). Every failure is a DataError that names the address and the reason.

An etag is the md5 of the content, or, of an object uploaded in parts, the md5 of the parts' md5s: the store is then asked how
long the parts are. Where it does not say, or encrypts with keys of its own (KMS), only size and unchanged etag vouch for a file.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

from workspace.errors import DataError
from workspace.files import is_no_room

ATTEMPTS = 3
CONNECT_SECONDS, READ_SECONDS = 5, 30  # a store that is silent for longer is treated as gone
QUICK_SECONDS = 3  # the same for what carries no media, while others wait
CHUNK_BYTES = 64 << 10  # what a cut may cost a second time
# one object alone: another may be had; archived ones are the second, and those whose key is switched off, gone or waits to be deleted
REFUSED = (
    "AccessDenied", "InvalidObjectState", "NoSuchKey", "403", "404", "KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException",
)  # fmt: skip
LONGEST_NAME_BYTES = 255  # of a file, on every common file system


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object. `size` is in bytes; `etag` is an md5, or md5-N for an object uploaded in N parts."""

    key: str
    size: int
    etag: str


def is_s3(url: str) -> bool:
    """Whether an address is of the form s3://bucket or s3://bucket/prefix."""
    return re.match(r"s3://[^/]+", url) is not None


def split_url(url: str) -> tuple[str, str]:
    """(bucket, prefix) of an address. Raises DataError for any other kind of address."""
    if not is_s3(url):
        raise DataError(
            f"{url!r} is not an address of an object store.", why="it must look like s3://bucket/prefix", next_step="Mend `ingest.sources` in params.yaml."
        )
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix


def list_prefix(url: str, endpoint: str = "", flat: bool = False) -> list[ObjectInfo]:
    """Every object under an address, sorted by key; folder markers (keys ending in '/') are left out, `flat`: what is in folders too. Raises DataError."""
    bucket, prefix = split_url(url)
    with _named(url, endpoint):
        pages = client(endpoint).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **({"Delimiter": "/"} if flat else {}))
        found = [ObjectInfo(item["Key"], int(item["Size"]), item["ETag"].strip('"')) for page in pages for item in page.get("Contents", [])]
    return sorted((item for item in found if not item.key.endswith("/")), key=lambda item: item.key)


def fetch(
    url: str,
    to: Path,
    endpoint: str = "",
    objects: Sequence[ObjectInfo] | None = None,
    workers: int = 8,
    progress: Callable[[int, int], None] | None = None,
    refused: dict[str, str] | None = None,
) -> list[Path]:
    """Fetch the objects under an address (or the `objects` given) into the folder `to`; returns their files in the order of the keys.

    A file that is there and agrees in size and checksum is not fetched again, a partial one is resumed. `progress` gets
    (done, total). Raises DataError, naming address and reason, when an object cannot be had whole, OSError without room for it; what was fetched stays.
    With `refused`, objects that the store does not give (forbidden, archived, gone) end nothing: their keys are put there, with the store's word for it.
    Whatever ends it early, Ctrl-C too, ends each download after the chunk that is on its way.
    """
    bucket, prefix = split_url(url)
    found = list_prefix(url, endpoint) if objects is None else sorted(objects, key=lambda item: item.key)
    targets = [_target(Path(to), prefix, item.key, url) for item in found]
    with _named(url, endpoint):
        store = client(endpoint)
    stop = Event()
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        futures = {pool.submit(_fetch_one, store, endpoint, bucket, item, target, stop): item for item, target in zip(found, targets, strict=True)}
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                if why := future.result():
                    if refused is None:
                        raise _failure(f"s3://{bucket}/{futures[future].key}", endpoint, f"the store refuses it ({why})")
                    refused[futures[future].key] = why
                if progress:
                    progress(done, len(found))
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return targets


def path_problem(name: str) -> str:
    """Why an object's name cannot be the path of a file below a folder; '' when it can."""
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        return "its key leads outside the source"
    return "its name is too long for a file" if any(len(part.encode()) > LONGEST_NAME_BYTES for part in parts) else ""


def partial_path(target: Path, item: ObjectInfo) -> Path:
    """Where the first bytes of an object wait for the rest. Another content is another file."""
    return target.with_name(f".{hashlib.sha256(f'{item.key} {item.etag}'.encode()).hexdigest()[:24]}.part")


def _target(to: Path, prefix: str, key: str, url: str) -> Path:
    """Where an object lands: its key below the last '/' of the prefix. A key that would leave the folder is refused."""
    name = key.removeprefix(prefix[: prefix.rfind("/") + 1])
    if problem := path_problem(name):
        raise DataError(f"Refused an object of {url}. Nothing was fetched.", why=f"{key!r}: {problem}", next_step="Rename the object.")
    return to / name


def _fetch_one(client: Any, endpoint: str, bucket: str, item: ObjectInfo, target: Path, stop: Event) -> str:
    """Why the store refuses this one object, '' when it is here."""
    from botocore.exceptions import ClientError, ConnectionClosedError, FlexibleChecksumError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    broken_off = (ConnectionClosedError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError, FlexibleChecksumError, ConnectionError)
    address = f"s3://{bucket}/{item.key}"
    with _named(address, endpoint):
        if target.is_file() and target.stat().st_size == item.size and _agrees(client, bucket, item, target):
            return ""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial, why = partial_path(target, item), ""
        for _ in range(ATTEMPTS):
            if stop.is_set():  # nobody waits for it any more
                return ""
            try:
                etag_is_md5 = _download(client, bucket, item, partial, stop)
            except broken_off as problem:  # the next attempt goes on from there
                why = str(problem)
                continue
            except ClientError as problem:
                if problem.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                    raise _failure(address, endpoint, "it changed after it was listed") from problem
                if (why := str(problem.response["Error"]["Code"])) in REFUSED:
                    return why
                raise
            if (came := partial.stat().st_size) < item.size:
                why = f"{came} of {item.size} bytes came"
            elif came == item.size and not (etag_is_md5 and _agrees(client, bucket, item, partial) is False):
                partial.replace(target)
                return ""
            else:
                why = f"what came is not what the store promised (etag {item.etag}, {item.size} bytes)"
                partial.unlink()  # whole and wrong: only a fresh start can help
        raise _failure(address, endpoint, f"after {ATTEMPTS} attempts: {why}")


def _download(client: Any, bucket: str, item: ObjectInfo, partial: Path, stop: Event) -> bool:
    """Append what is missing to `partial`, until `stop`; returns whether the etag is made of md5s (it is none under KMS encryption)."""
    have = partial.stat().st_size if partial.exists() else 0
    if have > item.size:
        partial.unlink()
        have = 0
    if have == item.size and have:
        return True
    span = {"Range": f"bytes={have}-"} if have else {}
    answer = client.get_object(Bucket=bucket, Key=item.key, IfMatch=item.etag, **span)
    resumed = have > 0 and answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    with open(partial, "ab" if resumed else "wb") as handle:
        for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
            handle.write(chunk)
            if stop.is_set():
                break
    return not str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") and not answer.get("SSECustomerAlgorithm")


def _agrees(client: Any, bucket: str, item: ObjectInfo, path: Path) -> bool | None:
    """Whether a file of the right size has the etag's checksum; None when nobody can tell."""
    if re.fullmatch(r"[0-9a-f]{32}", item.etag):
        return _md5_of_parts(path, [item.size])[0].hex() == item.etag
    match = re.fullmatch(r"([0-9a-f]{32})-([1-9]\d*)", item.etag)
    if not match:
        return None
    count = int(match[2])
    first = _part_bytes(client, bucket, item, 1, count)
    if not first:
        return None
    even = [min(first, item.size - first * number) for number in range(count)]
    if min(even) > 0 and sum(even) == item.size and _etag_of(path, even) == item.etag:
        return True
    sizes = [first, *(_part_bytes(client, bucket, item, number, count) for number in range(2, count + 1))]  # parts may be of any length
    return _etag_of(path, sizes) == item.etag if sum(sizes) == item.size else None


def _part_bytes(client: Any, bucket: str, item: ObjectInfo, number: int, count: int) -> int:
    """How long a part is as the store says, 0 when it does not."""
    from botocore.exceptions import ClientError

    try:
        answer = client.head_object(Bucket=bucket, Key=item.key, PartNumber=number)
    except ClientError:
        return 0
    return int(answer["ContentLength"]) if answer.get("PartsCount") == count else 0


def _etag_of(path: Path, sizes: Sequence[int]) -> str:
    digests = _md5_of_parts(path, sizes)
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _md5_of_parts(path: Path, sizes: Sequence[int]) -> list[bytes]:
    digests = []
    with open(path, "rb") as handle:
        for size in sizes:
            digest = hashlib.md5(usedforsecurity=False)
            while size and (chunk := handle.read(min(size, 1 << 20))):
                digest.update(chunk)
                size -= len(chunk)
            digests.append(digest.digest())
    return digests


def client(endpoint: str, quick: bool = False) -> Any:
    """A boto3 client of the store at `endpoint` (empty: the default), with short time-outs; `quick`: shorter ones, and no second attempt."""
    import boto3
    import botocore.session
    from botocore.config import Config

    connect, read, attempts = (QUICK_SECONDS, QUICK_SECONDS, 1) if quick else (CONNECT_SECONDS, READ_SECONDS, 3)
    retries: Any = {"total_max_attempts": attempts, "mode": "standard"}
    config = Config(connect_timeout=connect, read_timeout=read, retries=retries, max_pool_connections=32)
    session = botocore.session.Session()  # of its own: the credentials as they are now
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return boto3.session.Session(botocore_session=session).client("s3", endpoint_url=endpoint or None, config=config)


def _loader(data_path: str | None) -> Any:
    """What botocore reads of its services, read once for all clients of this process: each looked through all of AWS for it, 0.1 s."""
    loader = _read_once(data_path)
    loader.search_paths[:] = dict.fromkeys(loader.search_paths)  # boto3 adds its own folder for each client
    return loader


@cache
def _read_once(data_path: str | None) -> Any:
    from botocore.loaders import create_loader

    return create_loader(data_path)


@contextmanager
def _named(url: str, endpoint: str) -> Iterator[None]:
    """Turn what boto3 and the file system raise into a DataError that names the address; a disk without room stays what it is."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except (BotoCoreError, ClientError, ResponseParserError, OSError, ValueError) as problem:
        if is_no_room(problem):
            raise
        raise _failure(url, endpoint, str(problem)) from problem


def _failure(url: str, endpoint: str, why: str) -> DataError:
    place = f"{url} at {endpoint}" if endpoint else url
    return DataError(
        f"Cannot read {place}.", why=why, next_step="Check the address, the endpoint and the credentials (boto3's standard chain), then run the command again."
    )
