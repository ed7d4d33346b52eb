"""A process that reads 128 KiB pieces at random and tells how long each took.

    python -m benchmarks.load FILE SECONDS SEED

Pieces are dropped from the page cache before they are read, so that the daemon answers. Prints one
line when it begins, and at the end the latencies in seconds, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time

PIECE = 128 << 10


def main() -> None:
    path, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    fd = os.open(path, os.O_RDONLY)
    pieces = os.fstat(fd).st_size // PIECE
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead
    rng = random.Random(seed)
    latencies = []
    print("reading", flush=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        at = rng.randrange(pieces) * PIECE
        os.posix_fadvise(fd, at, PIECE, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        got = os.pread(fd, PIECE, at)
        latencies.append(time.perf_counter() - began)
        if len(got) != PIECE:
            raise EOFError(path)
    json.dump(latencies, sys.stdout)


if __name__ == "__main__":
    main()
