"""`scripts/debian-packages` where a release has not all that is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.conftest import ROOT

# What Debian's programs do: `apt-cache show` of a name that only others mention shows nothing and
# succeeds; apt-get installs all that it is given, or nothing.
PROGRAMS = {
    "id": "echo 0",
    "dpkg-query": '[ -e "$STATE/${@: -1}" ] && echo -n installed',
    "apt-cache": 'case "$2" in gone) ;; never*) exit 100 ;; *) echo "Package: $2" ;; esac',
    "apt-get": """
        case " $* " in
            *" update "*) echo update >> "$STATE/calls"; exit ;;
            *" gone "* | *" broken "*) echo "E: broken packages" >&2; exit 100 ;;
        esac
        while [ "$1" != --no-install-recommends ]; do shift; done
        shift
        for name; do touch "$STATE/$name"; done
    """,
}


def test_what_a_release_lacks_leaves_the_others(tmp_path: Path) -> None:
    programs, state = tmp_path / "bin", tmp_path / "state"
    for folder in ("scripts", ".venv", "bin", "state"):
        (tmp_path / folder).mkdir()
    script = shutil.copy(ROOT / "scripts" / "debian-packages", tmp_path / "scripts")
    for name, body in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    wanted = ["one", "never-there|other", "gone", "never", "broken", "last"]
    environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "STATE": str(state)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [script, *wanted], env=environ, capture_output=True, text=True, timeout=60, check=True
        )

    done = run()
    (state / "calls").unlink()
    assert sorted(os.listdir(state)) == ["last", "one", "other"]
    assert "E: broken packages\n" in done.stderr
    assert done.stderr.endswith("not installed: gone never broken\n")
    again = run()  # what could not be had is not tried at each call
    assert again.stdout + again.stderr == ""
    assert "calls" not in os.listdir(state)
