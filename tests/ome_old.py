"""Run by a Python that has an old ome-zarr: images and plates below the folder argv[1].

For each version argv[2:] an image `i-VERSION.zarr` with labels and a plate `p-VERSION.zarr`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import zarr
from ome_zarr import writer
from ome_zarr.format import format_from_version
from ome_zarr.io import parse_url

CHANNELS = [("DAPI", "0000FF"), ("GFP", "00FF00"), ("Cy5", "FF00FF")]


def group(path: Path, version: str) -> zarr.Group:
    found = parse_url(str(path), mode="w", fmt=format_from_version(version))
    return zarr.group(store=found.store)


def main(root: Path, *versions: str) -> None:
    data = np.load(root / "data.npy")  # t, c, z, y, x
    for version in versions:
        fmt = format_from_version(version)
        image = group(root / f"i-{version}.zarr", version)
        writer.write_image(data, image, fmt=fmt, axes="tczyx")
        image.attrs["omero"] = {
            "channels": [
                {"label": n, "color": c, "window": {"start": 5, "end": 900}} for n, c in CHANNELS
            ]
        }
        cells = (data[:, :1] % 5).astype("<u4")
        writer.write_labels(cells, image, "cells", fmt=fmt, axes="tczyx")
        plate = group(root / f"p-{version}.zarr", version)
        writer.write_plate_metadata(plate, ["A"], ["1", "2"], ["A/1", "A/2"], fmt=fmt)
        well = plate.require_group("A").require_group("2")
        writer.write_well_metadata(well, ["0"], fmt=fmt)
        writer.write_image(data, well.require_group("0"), fmt=fmt, axes="tczyx")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
