"""A file by reference: fetched from a host or bucket on the list, from exactly the address that was checked, up to the size cap."""

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from feedback.addresses import AddressRefused, checked
from feedback.api.problems import Problem
from feedback.api.uploads import Upload
from feedback.keep import MediaStore
from workspace.settings import Settings

FETCH_SECONDS, CONNECT_SECONDS = 60.0, 10.0
# threads of their own: a silent store or name server holds none of the service's, nor one the other's
NAMES, STORES = ThreadPoolExecutor(16, thread_name_prefix="names"), ThreadPoolExecutor(16, thread_name_prefix="stores")


@asynccontextmanager
async def fetched(reference: str, media: MediaStore, settings: Settings) -> AsyncIterator[Upload]:
    """The file, under `.vigil/uploads` until the block ends. Raises AddressRefused, and Problem 422 where it cannot be fetched or is too large."""
    descriptor, path = media.new_part()
    os.close(descriptor)
    try:
        fetch = _from_bucket if reference.startswith("s3://") else _from_host
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                digest, size = await fetch(reference, path, settings)
        except TimeoutError:
            raise _failed(f"it did not come within {FETCH_SECONDS:.0f} s") from None
        if not size:
            raise Problem(422, "The file is empty.", next_step="Name an image or a video.")
        yield Upload(path, digest, size, "")
    finally:
        media.drop_part(path)


async def _from_host(reference: str, path: Path, settings: Settings) -> tuple[str, int]:
    limits = settings.feedback
    hosts = [host for host in limits.reference_hosts if not host.startswith("s3://")]
    target = await asyncio.get_running_loop().run_in_executor(NAMES, checked, reference, hosts, limits.allow_private_addresses)
    digest, size = hashlib.sha256(), 0
    timeout = httpx.Timeout(FETCH_SECONDS, connect=CONNECT_SECONDS)
    try:
        async with httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False) as client:
            headers = {**target.headers, "Accept-Encoding": "identity"}
            async with client.stream("GET", target.url, headers=headers, extensions=target.extensions) as answer:
                if answer.status_code != 200:
                    raise _failed(f"{target.host} answered {answer.status_code}; redirects are not followed")
                _refuse_compressed(answer.headers.get("Content-Encoding", ""))
                with open(path, "wb") as handle:
                    async for chunk in answer.aiter_raw():
                        size += len(chunk)
                        if size > settings.serve.max_upload_bytes:
                            raise _too_large(settings.serve.max_upload_bytes)
                        digest.update(chunk)
                        handle.write(chunk)
    except httpx.HTTPError as problem:
        raise _failed(f"{target.host}: {type(problem).__name__}") from problem
    return digest.hexdigest(), size


async def _from_bucket(reference: str, path: Path, settings: Settings) -> tuple[str, int]:
    bucket, _, key = reference.removeprefix("s3://").partition("/")
    if f"s3://{bucket}" not in settings.feedback.reference_hosts or not key:
        raise AddressRefused(f"s3://{bucket[:100]} is not among the allowed hosts.")
    given_up = threading.Event()
    try:
        return await asyncio.get_running_loop().run_in_executor(STORES, _download, bucket, key, path, settings, given_up)
    finally:
        given_up.set()


def _download(bucket: str, key: str, path: Path, settings: Settings, given_up: threading.Event) -> tuple[str, int]:
    from botocore.exceptions import BotoCoreError, ClientError

    from workspace.objectstore import client

    most, digest, size = settings.serve.max_upload_bytes, hashlib.sha256(), 0
    try:
        found = client(settings.feedback.s3_endpoint_url).get_object(Bucket=bucket, Key=key)
        with contextlib.closing(found["Body"]) as body, open(path, "r+b") as handle:  # not made anew where nobody waits for it any more
            _refuse_compressed(found.get("ContentEncoding", ""))
            for chunk in body.iter_chunks(1 << 20):
                if given_up.is_set():
                    raise _failed("nobody waits for it any more")
                size += len(chunk)
                if size > most:
                    raise _too_large(most)
                digest.update(chunk)
                handle.write(chunk)
    except (BotoCoreError, ClientError) as problem:
        raise _failed(f"s3://{bucket}: {type(problem).__name__}") from problem
    return digest.hexdigest(), size


def _refuse_compressed(coding: str) -> None:
    """What is fetched is judged as it comes, and that would not be the file. (How an S3 client has sent it, some stores tell as `aws-chunked`.)"""
    given = [one for one in coding.lower().replace(" ", "").split(",") if one not in ("", "identity", "aws-chunked")]
    if given:
        raise _failed(f"it comes compressed ({', '.join(given)[:40]})")


def _failed(why: str) -> Problem:
    return Problem(422, f"The reference could not be fetched: {why}.", next_step="Check it, or send the file itself.")


def _too_large(most: int) -> Problem:
    return Problem(413, f"The file is larger than {most} bytes.", next_step="Cut it, or raise serve.max_upload_bytes.", max_bytes=most)
