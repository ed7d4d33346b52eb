"""One reader of the stress test: compares random ranges of mounted files with copies of them.

    python reader.py MOUNTED COPIES SECONDS SEED

Prints the number of ranges read; says on stderr which differ, and ends with status 1.
"""

from __future__ import annotations

import mmap
import os
import random
import sys
import time
from pathlib import Path


def main(mounted: Path, copies: Path, seconds: float, seed: int) -> int:
    rng = random.Random(seed)
    paths = sorted(path.relative_to(copies) for path in copies.rglob("*") if path.is_file())
    end = time.monotonic() + seconds
    count = wrong = 0
    while time.monotonic() < end:
        path = rng.choice(paths)
        with (mounted / path).open("rb") as ours, (copies / path).open("rb") as theirs:
            size = os.fstat(theirs.fileno()).st_size
            if os.fstat(ours.fileno()).st_size != size:
                print(f"{path}: size", file=sys.stderr)
                wrong += 1
            for _ in range(rng.choice([1, 4, 16])):
                start = rng.randrange(size)
                stop = min(size, start + rng.choice([1, 512, 4096, 131072, 1 << 20]))
                # Otherwise the kernel would answer, after a while, all by itself.
                os.posix_fadvise(ours.fileno(), start, stop - start, os.POSIX_FADV_DONTNEED)
                found = read(ours.fileno(), start, stop, size, rng.random() < 0.2)
                if found != os.pread(theirs.fileno(), stop - start, start):
                    print(f"{path}: [{start}, {stop})", file=sys.stderr)
                    wrong += 1
                count += 1
    print(count)
    return 1 if wrong else 0


def read(descriptor: int, start: int, stop: int, size: int, mapped: bool) -> bytes:
    if not mapped:
        return os.pread(descriptor, stop - start, start)
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as view:
        return view[start:stop]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
