"""What the pages of docs/clients tell people to type works, on the demonstration's image."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.conftest import ROOT, Mount, require
from tests.sources import document_examples

PAGES = sorted((ROOT / "docs/clients").glob("*.md"))
# How a block of each language is run, with the script last.
INTERPRETERS = {
    "python": [sys.executable, "-W", "ignore"],
    "octave": ["octave-cli", "--quiet", "--no-init-file"],
    "r": ["Rscript", "--vanilla"],
}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What the console's examples call. Other programs are part of every system.
_PROGRAMS = ("tiffinfo", "vips", "vipsheader", "h5ls", "h5dump", "h5repack", "h5diff", "ncdump",
             "rsync")  # fmt: skip


def blocks() -> Iterator[object]:
    """Each block of a language that is run: the page's name, the language, the text."""
    for page in PAGES:
        found = [b for b in _BLOCK.findall(page.read_text()) if b[0] in INTERPRETERS]
        for i, (language, text) in enumerate(found):
            yield pytest.param(language, text, id=f"{page.stem}-{language}-{i}")


def examples() -> Iterator[object]:
    for page in PAGES:
        for number, command, output in document_examples(page):
            yield pytest.param(command, output, id=f"{page.stem}-{number}")


@pytest.fixture(scope="module")
def folder(stores: Path, mount_for_module: Mount, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store and, as `m`, its mount."""
    path = tmp_path_factory.mktemp("pages")
    (path / "cells.zarr").symlink_to(stores / "cells.zarr")
    (path / "m").symlink_to(mount_for_module(stores / "cells.zarr"))
    return path


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # `python3` has the libraries
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "LC_ALL": "C.UTF-8"}


def _is_installed() -> bool:
    try:
        distribution("znfs")
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize(("language", "text"), blocks())
def test_scripts_run(folder: Path, tmp_path: Path, language: str, text: str) -> None:
    command = INTERPRETERS[language]
    require(command[0])
    script = tmp_path / f"script.{'m' if language == 'octave' else language}"
    script.write_text(text)
    done = subprocess.run(
        [*command, str(script)], cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    lacking = re.search(r"no package called .\w+|No module named '\w+'", done.stderr)
    if done.returncode and lacking:
        pytest.skip(f"{language}: {lacking[0]}")
    if "Protocol not known: znfs" in done.stderr and not _is_installed():
        pytest.skip("znfs runs uninstalled here: fsspec does not know its URLs")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("command", "output"), examples())
def test_commands_print_what_the_page_says(folder: Path, command: str, output: str) -> None:
    require(*(word for word in _PROGRAMS if re.search(rf"\b{word}\b", command)))
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.rstrip("\n") == output.rstrip("\n"), done.stderr


def test_every_picture_is_shown_and_small() -> None:
    """Pictures that pages name are there, none is left over, and they stay small."""
    named = set()
    for page in PAGES:
        named |= {Path(p).name for p in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())}
    there = {path.name: path.stat().st_size for path in (ROOT / "docs/pictures").glob("*.png")}
    assert named == set(there)
    assert max(there.values()) <= 150_000
    assert sum(there.values()) <= 1_500_000
