"""Source packages whose folders of stored data are references; fetched once, by pip."""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.environments import cache, fetch

_TIMEOUT = 120.0


def source_folder(name: str, version: str) -> Path:
    """The unpacked source package; skips the test, saying why, where it cannot be had."""
    root = cache() / "sources"
    folder = root / f"{name}-{version}"
    if folder.exists():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name]
    fetch(
        f"the source package {name} {version}", [*pip, "--dest", root, f"{name}=={version}"],
        _TIMEOUT,
    )  # fmt: skip
    with (
        tarfile.open(root / f"{name}-{version}.tar.gz") as archive,
        tempfile.TemporaryDirectory(dir=root) as unpacked,
    ):
        archive.extractall(unpacked, filter="data")
        os.rename(Path(unpacked, folder.name), folder)
    return folder


def document_examples(page: Path) -> list[tuple[int, str, str]]:
    """The `$ command` lines of a Markdown page's console blocks: line number, command, output.

    A command goes on over lines that begin with `> `.
    """
    found: list[tuple[int, str, list[str]]] = []
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            found.append((number, line[2:], []))
        elif inside and line.startswith("> ") and found and not found[-1][2]:
            at, command, _ = found[-1]
            found[-1] = (at, f"{command}\n{line[2:]}", [])
        elif inside and found:
            found[-1][2].append(line)
    return [(at, command, "\n".join(output)) for at, command, output in found]
