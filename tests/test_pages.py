"""The manual pages, the shells' completion, the systemd units: as the commands are. The page on
the architecture: as the modules are."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, require
from znfs.cli import COMMANDS
from znfs.config import FIELDS

PAGES = ROOT / "docs/man"


def test_pages_are_up_to_date(tmp_path: Path) -> None:
    """`scripts/pages` writes what is there."""
    pytest.importorskip("argparse_manpage", reason="argparse-manpage is not installed")
    pytest.importorskip("shtab", reason="shtab is not installed")
    env = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    subprocess.run([ROOT / "scripts/pages", tmp_path], env=env, check=True, timeout=120)
    made = [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()]
    assert len(made) == 3
    for path in made:
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), f"{path}: scripts/pages"


def test_every_command_and_option_has_its_place() -> None:
    text = (PAGES / "znfs.1").read_text().replace("\\-", "-")
    for name in COMMANDS:
        assert f"znfs {name}" in text
    helper = (PAGES / "mount.znfs.8").read_text()
    for name in FIELDS:
        assert f"--{name.replace('_', '-')}" in text, name
        assert re.search(rf"\b{name}\b", helper), name


@pytest.mark.parametrize("page", ["znfs.1", "mount.znfs.8"])
def test_pages_are_right_roff(page: str) -> None:
    require("groff")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-wmac", "-wescape", "-wrange", "-z", PAGES / page],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""


def test_completion_is_right_bash() -> None:
    require("bash")
    script = 'source completions/znfs.bash; COMP_WORDS=(znfs st); COMP_CWORD=1; _shtab_znfs; ' \
             'echo "${COMPREPLY[@]}"'  # fmt: skip
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["status"]


@pytest.mark.parametrize("unit", ["znfs@.service", "srv-volume.mount", "srv-volume.automount"])
def test_units(unit: str, tmp_path: Path) -> None:
    require("systemd-analyze")
    program = tmp_path / "znfs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = (ROOT / "systemd" / unit).read_text()
    name = unit.replace("@", "@volume")
    (tmp_path / name).write_text(text.replace("@PREFIX@/bin/znfs", str(program)))
    if unit.endswith(".automount"):
        mount = (ROOT / "systemd/srv-volume.mount").read_text()
        (tmp_path / "srv-volume.mount").write_text(mount)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / name],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if name in line or "znfs" in line]
    assert not ours


def test_the_service_is_exposed_as_little_as_fuse_bears(tmp_path: Path) -> None:
    """`systemd-analyze security` of the unit: "OK", though it may have no namespace of its own."""
    require("systemd-analyze")
    text = (ROOT / "systemd/znfs@.service").read_text().replace("@PREFIX@", "/usr/local")
    unit = tmp_path / "znfs@volume.service"
    unit.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip(done.stderr.strip() or "this systemd-analyze knows no --offline")
    assert float(found[1]) < 5


def _imported(file: Path) -> set[str]:
    """The modules and packages of znfs that a file imports, as far as they are its own."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("znfs"):
            _, *inner = node.module.split(".")
            found |= {inner[0]} if inner else {alias.name for alias in node.names}
    return found


def test_the_architecture_names_every_module_below_those_that_import_it() -> None:
    page = (ROOT / "docs/ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| (`[a-z`/, ]+`) \|", page, re.MULTILINE)
    row_of = {name: i for i, row in enumerate(rows) for name in re.findall(r"[a-z]+", row)}
    found = (p for p in (ROOT / "znfs").iterdir() if p.suffix in ("", ".py") and p.stem[0] != "_")
    parts = {p.stem: p for p in found}
    assert set(row_of) == set(parts)
    for name, path in parts.items():
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            above = {n for n in _imported(file) & set(row_of) if row_of[n] < row_of[name]}
            assert not above, f"{file} imports what stands above {name}"
