"""The S3 gateway of the tests, with stores in it, at the end of a line that delays and counts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from benchmarks.bench import Skipped, say
from benchmarks.proxy import Proxy, proxy
from benchmarks.readers import Remote
from tests.servers.process import NotAvailable
from tests.servers.s3 import S3

_BUCKET = "benchmark"


@dataclass(frozen=True)
class Gateway:
    """Where the stores are. `line` leads there."""

    line: Proxy
    environment: Mapping[str, str]

    def place(self, prefix: str) -> Remote:
        return Remote(_BUCKET, prefix, self.line.endpoint)

    def options(self) -> list[str]:
        """For `znfs mount`."""
        return ["--endpoint-url", self.line.endpoint, "--region", "us-east-1"]


@contextmanager
def gateway(stores: Mapping[str, Path]) -> Iterator[Gateway]:
    """A gateway that holds the folders `stores` under their names. Raises Skipped without Ceph.

    This process's environment has the credentials meanwhile.
    """
    server = S3()
    try:
        with server as s3, mock.patch.dict(os.environ, s3.environment):
            client = s3.client()
            client.create_bucket(Bucket=_BUCKET)
            for prefix, folder in stores.items():
                say(f"uploading {prefix}")
                files = [path for path in folder.rglob("*") if path.is_file()]
                with ThreadPoolExecutor(8) as pool:
                    for _ in pool.map(
                        lambda path, prefix=prefix, folder=folder: client.upload_file(
                            str(path), _BUCKET, f"{prefix}/{path.relative_to(folder)}"
                        ),
                        files,
                    ):
                        pass
            with proxy("127.0.0.1", s3.port) as line:
                yield Gateway(line, s3.environment)
    except NotAvailable as why:
        raise Skipped(str(why)) from why
