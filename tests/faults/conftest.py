"""The gateway and the proxies of the fault suite, one for all tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_fuse, running
from tests.faults import rig
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3
from tests.servers.statusproxy import StatusProxy

Start = Callable[..., rig.Mounted]


@pytest.fixture(scope="package")
def s3() -> Iterator[S3]:
    require_fuse()
    with running(S3) as server:
        client = server.client()
        client.create_bucket(Bucket=rig.BUCKET)
        for name in rig.LAYOUTS:
            rig.upload(client, name)
        yield server


@pytest.fixture(scope="package")
def status_proxy(s3: S3) -> Iterator[StatusProxy]:
    with StatusProxy("127.0.0.1", s3.port) as proxy:
        yield proxy


@pytest.fixture(scope="package")
def line(status_proxy: StatusProxy) -> Iterator[FaultProxy]:
    """The line to the gateway, by way of the proxy that answers with errors."""
    with FaultProxy("127.0.0.1", status_proxy.port) as proxy:
        yield proxy


@pytest.fixture
def start(s3: S3) -> Iterator[Start]:
    """`start(endpoint, name, *flags)`: a mount of the array `name` that ends with the test."""
    made: list[rig.Mounted] = []

    def begin(endpoint: str, name: str = "sums", *flags: Any, **more: Any) -> rig.Mounted:
        source = f"s3://{rig.BUCKET}/{name}.zarr"
        made.append(
            rig.start(source, s3.environment, "--endpoint-url", endpoint, *flags, **more)
        )
        return made[-1]

    yield begin
    for mounted in made:
        rig.stop(mounted)


@pytest.fixture(scope="session", autouse=True)
def _report() -> Iterator[None]:
    yield
    if path := os.environ.get("ZNFS_FAULTS_REPORT"):
        Path(path).write_text(json.dumps([vars(row) for row in rig.ROWS]))
