"""A real S3 server on this machine, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def s3_server(*buckets: str, port: int = 0) -> Iterator[tuple[str, Any]]:
    """Its address and a client, with these buckets; it shows what other servers of this process keep, too. Credentials are in the environment meanwhile."""
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        server = moto.ThreadedMotoServer(port=port, verbose=False)
        server.start()
        try:
            endpoint = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
            client = boto3.client("s3", endpoint_url=endpoint)
            for bucket in buckets:
                client.create_bucket(Bucket=bucket)
            yield endpoint, client
            for bucket in buckets:  # all servers of a process share what is stored: the next test must not find ours
                pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
                for item in [item for page in pages for item in page.get("Contents", [])]:
                    client.delete_object(Bucket=bucket, Key=item["Key"])
                client.delete_bucket(Bucket=bucket)
        finally:
            server.stop()
