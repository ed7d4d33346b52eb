"""Run by a Python that has VirtualiZarr: two NetCDF-4 files below the folder argv[1], references to
both as one in JSON and Parquet, and what xarray reads there. argv[2], if any, is put in the place
of the folder in the references' targets."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import xarray
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr import open_virtual_dataset
from virtualizarr.parsers import HDFParser


def main(folder: Path, base: str) -> None:
    rng = np.random.default_rng(0)
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    files = [folder / f"part{k}.nc" for k in range(2)]
    parts = []
    for k, file in enumerate(files):
        values = rng.normal(size=(4, 6, 8)).astype("f4")
        counts = rng.integers(-99, 99, (4, 5)).astype("i2")
        made = xarray.Dataset(
            {"t": (("time", "y", "x"), values), "g": (("time", "k"), counts)},
            coords={"time": np.arange(4 * k, 4 * k + 4), "x": np.linspace(0, 1, 8)},
        )
        coded = {"t": {"chunksizes": (2, 3, 8), "zlib": True, "shuffle": True}}
        made.to_netcdf(file, engine="h5netcdf", encoding=coded)
        parts.append(open_virtual_dataset(
            f"file://{file}", registry=registry, parser=HDFParser(),
            loadable_variables=["time", "x"],
        ))  # fmt: skip
    how = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "join": "override"}
    whole = xarray.concat(parts, dim="time", **how)
    if base:
        whole = whole.vz.rename_paths(lambda path: f"{base}/{Path(path).name}")
    whole.vz.to_kerchunk(str(folder / "refs.json"), format="json")
    whole.vz.to_kerchunk(str(folder / "refs.parq"), format="parquet", record_size=3)
    opened = [xarray.open_dataset(file, engine="h5netcdf") for file in files]
    expected = xarray.concat(opened, dim="time", **how)
    for name in ("t", "g", "time", "x"):
        np.save(folder / f"{name}.npy", expected[name].values)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
