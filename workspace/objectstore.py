"""Media in an object store: list a prefix and fetch it, in parallel, resumed where it broke off, checked at the end.

Addresses are `s3://bucket/prefix`; any S3-compatible endpoint works. Credentials come from boto3's standard chain
(environment, shared files, instance role). Every failure is a DataError that names the address and the reason.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from workspace.errors import DataError
from workspace.files import CHUNK_BYTES

ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object. `size` is in bytes; `etag` is the md5 of the content unless it holds a dash (multipart upload)."""

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


def list_prefix(url: str, endpoint: str = "") -> list[ObjectInfo]:
    """Every object under an address, sorted by key; folder markers (keys ending in '/') are left out. Raises DataError."""
    bucket, prefix = split_url(url)
    with _named(url, endpoint):
        pages = client(endpoint).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        found = [ObjectInfo(item["Key"], int(item["Size"]), item["ETag"].strip('"')) for page in pages for item in page.get("Contents", [])]
    return sorted((item for item in found if not item.key.endswith("/")), key=lambda item: item.key)


def fetch(
    url: str,
    to: Path,
    endpoint: str = "",
    objects: Sequence[ObjectInfo] | None = None,
    workers: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Fetch the objects under an address (or the `objects` given) into the folder `to`; returns their files in the order of the keys.

    A file that is there and agrees in size and checksum is not fetched again, a partial one is resumed. `progress` gets
    (done, total). Raises DataError, naming address and reason, when an object cannot be had whole; what was fetched stays.
    """
    bucket, prefix = split_url(url)
    found = list_prefix(url, endpoint) if objects is None else sorted(objects, key=lambda item: item.key)
    targets = [_target(Path(to), prefix, item.key, url) for item in found]
    with _named(url, endpoint):
        store = client(endpoint)
    done = 0
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        futures = [pool.submit(_fetch_one, store, endpoint, bucket, item, target) for item, target in zip(found, targets, strict=True)]
        try:
            for future in futures:
                future.result()
                done += 1
                if progress:
                    progress(done, len(found))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return targets


def _target(to: Path, prefix: str, key: str, url: str) -> Path:
    """Where an object lands: its key below the last '/' of the prefix. A key that would leave the folder is refused."""
    relative = PurePosixPath(key.removeprefix(prefix[: prefix.rfind("/") + 1]))
    if relative.is_absolute() or ".." in relative.parts or "\0" in key or not relative.parts:
        raise DataError(f"Refused an object of {url}. Nothing was fetched.", why=f"its key {key!r} points outside the folder", next_step="Rename the object.")
    return to.joinpath(*relative.parts)


def _fetch_one(client: Any, endpoint: str, bucket: str, item: ObjectInfo, target: Path) -> None:
    from botocore.exceptions import ConnectionClosedError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    address = f"s3://{bucket}/{item.key}"
    with _named(address, endpoint):
        if target.is_file() and not _difference(target, item, check_md5=True):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{hashlib.sha256(item.etag.encode()).hexdigest()[:12]}.part")  # another content, another file
        why, check_md5 = "", True
        for _ in range(ATTEMPTS):
            try:
                check_md5 = _download(client, bucket, item, partial)
            except (
                ConnectionClosedError,
                IncompleteReadError,
                ReadTimeoutError,
                ResponseStreamingError,
                ConnectionError,
            ) as problem:  # broken off: the next attempt goes on from there
                why = str(problem)
                continue
            why = _difference(partial, item, check_md5)
            if not why:
                partial.replace(target)
                return
            if partial.stat().st_size >= item.size:
                partial.unlink()  # whole and wrong: only a fresh start can help
        raise _failure(address, endpoint, f"after {ATTEMPTS} attempts: {why}")


def _download(client: Any, bucket: str, item: ObjectInfo, partial: Path) -> bool:
    """Append what is missing to `partial`; returns whether the etag is an md5 to check (it is none under KMS encryption)."""
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
    return not str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") and not answer.get("SSECustomerAlgorithm")


def _difference(path: Path, item: ObjectInfo, check_md5: bool) -> str:
    """Why a file is not the object; '' when it is, as far as size and etag can tell."""
    size = path.stat().st_size
    if size != item.size:
        return f"{size} of {item.size} bytes came"
    if check_md5 and re.fullmatch(r"[0-9a-f]{32}", item.etag):
        with open(path, "rb") as handle:
            found = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return "" if found == item.etag else f"its checksum is {found}, the store says {item.etag}"
    return ""


def client(endpoint: str) -> Any:
    """A boto3 client of the store at `endpoint` (empty: the default), with short time-outs."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 2, "mode": "standard"}, max_pool_connections=32)
    return boto3.session.Session().client("s3", endpoint_url=endpoint or None, config=config)


@contextmanager
def _named(url: str, endpoint: str) -> Iterator[None]:
    """Turn what boto3 and the file system raise into a DataError that names the address."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, OSError, ValueError) as problem:
        raise _failure(url, endpoint, str(problem)) from problem


def _failure(url: str, endpoint: str, why: str) -> DataError:
    place = f"{url} at {endpoint}" if endpoint else url
    return DataError(
        f"Cannot read {place}.", why=why, next_step="Check the address, the endpoint and the credentials (boto3's standard chain), then run the command again."
    )
