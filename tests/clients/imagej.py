"""Runs macros in ImageJ 1, without a window anybody sees."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests import bioformats
from tests.conftest import require, require_file

JAR = "/usr/share/java/ij.jar"


def imagej(tmp_path: Path, macro: str, *arguments: Path, importer: bool = False) -> list[list[str]]:
    """What a macro prints; each line split at tabs. `getArgument()` has the paths, joined by `|`.

    With `importer` there is Bio-Formats' plugin, as in Fiji.
    """
    require("java", "xvfb-run")
    require_file(JAR, "imagej")
    script = tmp_path / "macro.ijm"
    script.write_text(macro, "utf-8")
    if importer:
        plugin = tmp_path / "plugins/bioformats_package.jar"
        plugin.parent.mkdir(exist_ok=True)
        plugin.unlink(missing_ok=True)
        plugin.symlink_to(bioformats.jar())
    done = subprocess.run(
        ["xvfb-run", "-a", "java", "-Dfile.encoding=UTF-8", f"-Duser.home={tmp_path}",
         f"-Dplugins.dir={tmp_path}", "-cp", JAR, "ij.ImageJ", "-batch", str(script),
         "|".join(map(str, arguments))],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},  # Java reads file names in it
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    assert lines, done.stdout + done.stderr
    return lines
