"""Tables and numbers for people. rich draws them; it is imported only when one is drawn."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_UNBOUNDED = 1 << 16  # columns: a table that is piped must not be folded


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = ()
) -> None:
    """Print rows in aligned columns; those without any content are left out."""
    console().print(make_table(columns, rows, right))


def console() -> Console:
    """Standard output, as rich draws on it."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _UNBOUNDED
    return Console(width=width, highlight=False, soft_wrap=width is not None)


def make_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = ()
) -> Table:
    """The table, for rich; its head is left out where no column has a name."""
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    used = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for i in used:
        side = "right" if columns[i] in right else "left"
        table.add_column(columns[i], justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(Text(printable(row[i])) for i in used))
    return table


def printable(text: str) -> str:
    """Control characters as escapes: names and messages may quote a store, and terminals obey.
    Lone surrogates too, among them bytes of names that are no UTF-8: no output takes them."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def size_text(size: float) -> str:
    """Bytes in the unit that suits: `1.5 GiB`."""
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def duration_text(seconds: float) -> str:
    """`3 d 4 h`, `5 min 6 s`: the two largest units."""
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        n, seconds = divmod(int(seconds), length)
        if n or (unit == "s" and not parts):
            parts.append(f"{n} {unit}")
    return " ".join(parts[:2])
