"""What the tests of this folder find becomes docs/CONFORMANCE.md: `make conformance`.

A test calls `found(format, feature, writer, oracle, result)` once it has compared. With the
environment variable ZNFS_CONFORMANCE naming a file, a run without failures writes the page there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.page import Finding, write

_FINDINGS: list[Finding] = []


@pytest.fixture(scope="session")
def found() -> Callable[..., None]:
    """Note a line of the page."""
    return lambda *words, **more: _FINDINGS.append(Finding(*words, **more))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    path = os.environ.get("ZNFS_CONFORMANCE")
    if path and exitstatus == 0:
        write(Path(path), _FINDINGS)
