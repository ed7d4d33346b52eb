"""Every example in docs/SEMANTICS.md is run against a real mount."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec

from tests.conftest import ROOT, Mount, require
from tests.sources import document_examples

PAGE = ROOT / "docs/SEMANTICS.md"
EXAMPLES = document_examples(PAGE)
PROGRAMS = ("bash", "cmp", "stat", "h5dump", "tiffinfo")


def write_cells(root: Path) -> None:
    """The store that the page describes."""
    group = zarr.create_group(root, attributes={"sample": "A1"})
    em = group.create_array(
        "em", shape=(4, 6, 8), chunks=(2, 3, 4), dtype="uint16", fill_value=7,
        serializer=BytesCodec(endian="big"), attributes={"lens": "60x"},
    )  # fmt: skip
    em[...] = np.arange(4 * 6 * 8, dtype="uint16").reshape(4, 6, 8)
    (root / "em/c/1/1/1").unlink()  # a chunk that is not stored
    names = group.create_array(
        "named", shape=(2, 5), chunks=(2, 2), shards=(2, 4), dtype="float32",
        dimension_names=("time", "depth"),
    )  # fmt: skip
    names[...] = np.arange(10).reshape(2, 5)
    flags = group.create_array("flags", shape=(3,), chunks=(3,), dtype="bool")
    flags[...] = [True, False, True]
    (root / "flags/flags.npy").write_text("mine\n")
    (root / "README").write_text("about these cells\n")


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, mount_for_module: Mount
) -> tuple[Path, dict[str, str]]:
    """Where the examples run: a folder with `cells.zarr` and `mnt`, and `znfs` in the PATH."""
    require(*PROGRAMS)
    folder = tmp_path_factory.mktemp("semantics")
    write_cells(folder / "cells.zarr")
    (folder / "mnt").symlink_to(mount_for_module(folder / "cells.zarr", "--ttl", "0"))
    bin_ = folder / "bin"
    bin_.mkdir()
    for name, words in {"znfs": "-m znfs", "python3": ""}.items():
        (bin_ / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (bin_ / name).chmod(0o755)
    environ = {
        **os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "XDG_CONFIG_HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TZ": "UTC",
    }  # fmt: skip
    return folder, environ


@pytest.mark.parametrize(("line", "command", "expected"), EXAMPLES)
def test_example(
    place: tuple[Path, dict[str, str]], line: int, command: str, expected: str
) -> None:
    folder, environ = place
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environ, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = done.stdout.rstrip("\n")
    pattern = re.escape(expected).replace("…", ".*")
    assert re.fullmatch(pattern, said), f"{PAGE.name}:{line}: {command}\n{said}"


def test_every_section_has_examples() -> None:
    text = PAGE.read_text()
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        assert "```console" in section, section.partition("\n")[0]
