"""docs/CONFORMANCE.md, made from what the tests of this folder found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "zarr", "numcodecs", "tensorstore", "z5py", "ome-zarr", "ngff-zarr", "zarrista",
    "kerchunk", "h5py",
)  # fmt: skip
_HEAD = """\
# Conformance

What was read, by whom it was written and with what it was compared. This page is written by
`make conformance`, which runs these tests; nothing in it is written by hand. Except where a row
says otherwise, the arrays are read through a real mount: `NAME.npy` is compared with what the
oracle reads, value for value (where a row says so, `NAME.h5`), and every stored key with the
store's own bytes.

`equal`: all values are. `refused`: there is no view, and `znfs info` says why; the keys read raw.
"""


@dataclass(frozen=True)
class Finding:
    """A feature of a format, who wrote it, who else read it, and what came of it."""

    format: str
    feature: str
    writer: str
    oracle: str
    result: str
    arrays: int = 1


def write(path: Path, findings: Iterable[Finding]) -> None:
    """Write the page, sorted, equal rows added up."""
    tables: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for f in findings:
        tables[f.format][f.feature, f.writer, f.oracle, f.result] += f.arrays
    lines = [_HEAD]
    lines += ["Libraries: " + ", ".join(filter(None, map(_installed, LIBRARIES))) + ".\n"]
    for form in sorted(tables):
        lines += [f"## {form}\n", "| feature | written by | compared with | arrays | result |",
                  "|---|---|---|---|---|"]  # fmt: skip
        for (feature, writer, oracle, result), count in sorted(tables[form].items()):
            cells = (feature, writer, oracle, f"{count:,}", result)
            lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
        lines.append("")
    path.write_text("\n".join(lines))


def _installed(name: str) -> str | None:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return None
