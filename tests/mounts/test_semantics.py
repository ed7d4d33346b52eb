"""Every promise in docs/SEMANTICS.md has an example, and each is run against real mounts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, Mount, require
from tests.mounts.promised import Web, write_cells, write_others
from tests.sources import document_examples

PAGE = ROOT / "docs/SEMANTICS.md"
EXAMPLES = document_examples(PAGE)
PROGRAMS = ("bash", "cmp", "stat", "h5dump", "h5ls", "tiffinfo", "ncdump")


@dataclass(frozen=True)
class Place:
    """Where the examples run: a folder, with `znfs` and `python3` in the PATH."""

    folder: Path
    environ: dict[str, str]

    def run(self, command: str) -> str:
        """What it prints, errors too."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environ, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout.rstrip("\n")


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, mount_for_module: Mount
) -> Iterator[Place]:
    require(*PROGRAMS)
    folder = tmp_path_factory.mktemp("semantics")
    write_cells(folder / "cells.zarr")
    write_cells(folder / "web/cells.zarr")
    write_others(folder / "others")
    bin_ = folder / "bin"
    bin_.mkdir()
    for name, words in {"znfs": "-m znfs", "python3": ""}.items():
        (bin_ / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (bin_ / name).chmod(0o755)
    # The examples show what GNU's programs say; Ubuntu 26.04 has others under their names.
    for program in Path("/usr/bin").glob("gnu*"):
        (bin_ / program.name.removeprefix("gnu")).symlink_to(program)
    with Web(folder) as web:
        for name, source, *flags in (
            ("mnt", folder / "cells.zarr", "--ttl", 0),
            ("all", folder / "others"),
            ("far", f"{web.url}/web/cells.zarr", "--ttl", 60, "--deadline", 1),
        ):
            (folder / name).symlink_to(mount_for_module(source, *flags))
        place = Place(folder, {
            **os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
            "XDG_CONFIG_HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TZ": "UTC", "WEB": web.url,
        })  # fmt: skip
        place.run("znfs info others > info; znfs info cells.zarr >> info")
        yield place


@pytest.mark.parametrize(("line", "command", "expected"), EXAMPLES)
def test_example(place: Place, line: int, command: str, expected: str) -> None:
    said = place.run(command)
    pattern = re.escape(expected).replace("…", ".*")
    assert re.fullmatch(pattern, said), f"{PAGE.name}:{line}: {command}\n{said}"


def promises(text: str) -> list[str]:
    """The rows of tables and the sentences of a piece of the page. What ends in a colon leads to
    what follows."""
    lines = text.splitlines()
    tables = [line for line in lines if line.startswith("|")]
    rows = [line for line in tables if not set(line) <= set("|- ")]
    heads = sum(set(line) <= set("|- ") for line in tables)
    prose = " ".join(line for line in lines if not line.startswith(("|", "#")))
    prose = re.sub(r"`[^`]*`|\[[^]]*\]\([^)]*\)", "x", prose)
    said = re.split(r"(?<=[.;:])(?: +|$)", prose.strip())
    return rows[heads:] + [s for s in said if s and not s.endswith(":")]


def pieces(page: str) -> list[tuple[str, int]]:
    """What stands between two console blocks, or a heading and a block; and how many commands the
    block after it has (0: there is none before the next section)."""
    found = []
    for section in re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]:
        *before, last = re.split(r"^```console\n(.*?)^```\n", section, flags=re.M | re.S)
        for text, block in zip(before[::2], before[1::2], strict=True):
            found.append((text, len(re.findall(r"^\$ ", block, re.M))))
        found.append((last, 0))
    return found


def test_every_promise_has_an_example() -> None:
    """After each piece of text comes a block with as many commands, at least, as it has sentences
    and rows: who adds a promise has to add an example."""
    bare = [
        (said, commands, text)
        for text, commands in pieces(PAGE.read_text())
        if (said := len(promises(text))) > commands
    ]
    assert not bare, "\n".join(f"{s} promises, {c} examples: {t.strip()}" for s, c, t in bare)


def test_a_promise_without_an_example_is_noticed() -> None:
    told = "## One\n\nIt is so.\n\n```console\n$ true\n```\n"
    assert [(len(promises(t)), n) for t, n in pieces(told)] == [(1, 1), (0, 0)]
    more = told + "\n- And so it is: `a. b` too.\n- And more.\n\n| a | b |\n|---|---|\n| c | d |\n"
    assert [(len(promises(t)), n) for t, n in pieces(more)] == [(1, 1), (3, 0)]
