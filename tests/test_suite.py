"""The suite skips what this machine lacks, and fails what is there and does not work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import require_fuse, running
from tests.servers.nginx import Nginx
from tests.servers.process import NotAvailable, require

SKIPPED, FAILED = pytest.skip.Exception, pytest.fail.Exception


@pytest.mark.parametrize(("ci", "raised"), [("", SKIPPED), ("true", FAILED)])
def test_no_fuse(ci: str, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises((SKIPPED, FAILED), match="/dev/fuse") as caught:
        require_fuse()
    assert caught.type is raised


def test_a_server_that_is_not_installed() -> None:
    def make() -> Nginx:
        require("no-such-package", "no-such-program")
        raise AssertionError

    with pytest.raises(SKIPPED, match="no-such-package"), running(make):
        pass


def test_a_server_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An nginx whose configuration it refuses."""
    try:
        nginx = Nginx(tmp_path)
    except NotAvailable as why:
        pytest.skip(str(why))
    monkeypatch.setattr("tests.servers.nginx._CONF", "no such directive;")
    with pytest.raises(RuntimeError, match="ended at once"), running(lambda: nginx):
        pass
