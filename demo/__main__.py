"""`make demo`: write two small stores, mount both, and read them with tools that know neither.

    python -m demo [FOLDER]      FOLDER (kept) instead of a temporary one

On a terminal the mounts stay for you to look around, and the commands that end them are printed;
elsewhere they are unmounted at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo.volume import cells, halve
from demo.write import write_n5, write_ome_zarr

INNER = (1, 16, 64, 64)  # chunks of both stores
SHARD = (1, 32, 256, 256)
LEVEL = "0"  # the full resolution of the Zarr image
DATASET = "volume"  # the N5 dataset


def main(arguments: Sequence[str]) -> int:
    """Run the demonstration; 0 if everything read right."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty() and "CI" not in os.environ
    folder = Path(arguments[0] if arguments else tempfile.mkdtemp(prefix="znfs-demo-")).resolve()
    zarr, n5 = folder / "cells.zarr", folder / "cells.n5"
    mounts = {zarr: folder / "zarr", n5: folder / "n5"}

    title(f"A volume of cells: OME-Zarr (Zarr v3 with shards) and N5, in {folder}")
    volume = cells()
    write_ome_zarr(zarr, [volume, halve(volume)], INNER, SHARD)
    write_n5(n5, DATASET, volume, INNER)
    run("du", "-sh", zarr, n5)

    done = False
    try:
        title("Mount both")
        for source, mountpoint in mounts.items():
            mountpoint.mkdir(exist_ok=True)
            run(znfs(), "mount", source, mountpoint)
        look_around(mounts[zarr], mounts[n5])
        compare(folder, volume, mounts[zarr] / LEVEL / "chunks" / "c/1/0/1/2", (1, 0, 1, 2))
        compare(folder, volume, mounts[n5] / DATASET / "chunks" / "2/1/0/1", (1, 0, 1, 2))
        done = True
    except subprocess.CalledProcessError as error:
        print(f"that failed with exit status {error.returncode}", file=sys.stderr)
    finally:
        if interactive and done:
            title("The mounts stay. Look around, then")
            for mountpoint in mounts.values():
                print(f"  {znfs()} umount {mountpoint}")
            print(f"  rm -r {folder}")
        else:
            title("Unmount")
            for mountpoint in mounts.values():
                if mountpoint.is_mount():
                    run(znfs(), "umount", mountpoint)
            if not arguments:
                shutil.rmtree(folder)
    return 0 if done else 1


def look_around(zarr: Path, n5: Path) -> None:
    """What is there, and what other tools make of it."""
    array, dataset = zarr / LEVEL, n5 / DATASET
    title("What the mounts look like")
    if shutil.which("tree"):
        run("tree", "-h", "-L", "2", "--filelimit", "40", zarr)
        run("tree", "-h", "-L", "2", "--filelimit", "40", n5)
    else:
        run("ls", "-l", zarr, array, n5, dataset)
    planes = sorted((array / "tiff").iterdir())
    names = f"{planes[0].name} to {planes[-1].name}"
    print(f"  … and in {array / 'tiff'} {len(planes)} planes, {names}")

    title("A plane, in a tool that knows only TIFF")
    if shutil.which("tiffinfo"):
        run("tiffinfo", "-D", planes[15])
        same = sorted((dataset / "tiff").iterdir())[15]
        run("tiffcmp", "-t", planes[15], same)
        print("  (tiffcmp: the same pixels from both stores)")
    else:
        print("  tiffinfo is not installed (Debian package libtiff-tools)")

    title("The same volume as HDF5, in the HDF5 tools")
    if shutil.which("h5ls"):
        run("h5ls", "-r", zarr / "cells.h5")
        run("h5dump", "-d", f"/{LEVEL}", "-s", "1,15,100,100", "-c", "1,1,1,8", zarr / "cells.h5")
    else:
        print("  h5ls is not installed (Debian package hdf5-tools)")


def compare(folder: Path, volume: np.ndarray[Any, Any], file: Path, index: Sequence[int]) -> None:
    """Compare a decoded chunk with the bytes it must have."""
    title("A decoded chunk, compared with the volume it was written from")
    part = volume[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, INNER, strict=True))]
    expected = folder / "expected"
    expected.write_bytes(part.astype("<u2").tobytes())
    run("cmp", file, expected)
    print("  equal")


def znfs() -> str:
    """The znfs command beside this Python."""
    return str(Path(sys.executable).parent / "znfs")


def title(text: str) -> None:
    """A heading between the steps."""
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def run(*command: str | Path) -> None:
    """Show a command and run it. Raises CalledProcessError."""
    shown = " ".join([Path(command[0]).name, *map(str, command[1:])])
    print(f"$ {shown}", flush=True)
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
