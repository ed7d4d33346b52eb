"""python -m benchmarks [--rows 1,2] [--quick]: one table, and benchmarks/RESULTS.md."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks import report, rows
from benchmarks.bench import Bench, Skipped, say
from benchmarks.data import Data

_HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--rows", type=_numbers, default=rows.NUMBERS, metavar="N,…", help="only these rows"
    )
    parser.add_argument("--quick", action="store_true", help="smaller, in minutes")
    parser.add_argument("--data", type=Path, default=_cache(), help="folder of the volumes made")
    parser.add_argument("--output", type=Path, default=_HERE / "RESULTS.md")
    args = parser.parse_args()
    bench = Bench(Data(args.data, say), args.quick)
    for number in args.rows:
        say(f"row {number}")
        try:
            rows.load(number)(bench)
        except Skipped as why:
            bench.skip(f"row {number}: {why}")
        mode = "--quick" if args.quick else "in full"
        if args.rows != rows.NUMBERS:
            mode += f", rows {','.join(map(str, args.rows))} only"
        report.write(args.output, bench.lines, mode=mode, remarks=bench.remarks)
    print(report.table(bench.lines))


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if unknown := set(numbers) - set(rows.NUMBERS):
        raise argparse.ArgumentTypeError(f"no row {min(unknown)}")
    return numbers


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "znfs-benchmarks"


if __name__ == "__main__":
    main()
