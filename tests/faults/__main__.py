"""`python -m tests.faults`: run the fault suite and write its table into docs/RELIABILITY.md."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import DEADLINE, GRID

PAGE = Path(__file__).parents[2] / "docs/RELIABILITY.md"
BEGIN, END = "<!-- written by python -m tests.faults -->", "<!-- end -->"
COLUMNS = ("Fault", "New reads", "A chunk read before", "Slowest", "Logged", "Recovers")


def main() -> int:
    """Exit status: pytest's. The page is written only if all tests passed."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZNFS_FAULTS_REPORT"] = report = f"{folder}/rows.json"
        status = int(pytest.main(["-q", str(Path(__file__).parent), *sys.argv[1:]]))
        if status == 0:
            rows = json.loads(Path(report).read_text())
            before, _, rest = PAGE.read_text().partition(BEGIN)
            _, _, after = rest.partition(END)
            PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}")
    return status


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        f"{len(GRID)} chunks read by as many threads, `--deadline {DEADLINE:g}` (10 where every "
        "third answer fails).\n",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for row in rows:
        cells = [
            row["fault"], row["cold"], row["warm"] or "–", f"{row['within']:.1f} s",
            row["logged"].replace("|", "\\|"), row["recovers"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
