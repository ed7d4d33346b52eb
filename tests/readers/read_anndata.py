"""Writes and reads with anndata, in an environment of its own:

    python read_anndata.py write ZARR
    python read_anndata.py read ZARR H5...

`write` makes a small annotated matrix, with texts wherever anndata puts them. `read` exits with an
error unless each HDF5 file holds what the store does; it prints anndata's version.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import anndata
import numpy as np
import pandas as pd
import scipy.sparse


def write(path: str) -> None:
    cells, genes = [f"cell {i} é" for i in range(5)], ["g1", "g2", "γ3"]
    kinds = pd.Categorical(["B é", "T", "", "B é", "T"])
    anndata.AnnData(
        X=scipy.sparse.csr_matrix(np.arange(15, dtype="f4").reshape(5, 3) % 4),
        obs=pd.DataFrame({"kind": kinds, "label": ["a", "日本", "", "x" * 300, "y"]}, index=cells),
        var=pd.DataFrame({"note": ["", "b", "é"]}, index=genes),
        uns={"title": "scalar é", "names": np.array(["p", "", "ü"], object)},
        obsm={"pca": np.arange(10.0).reshape(5, 2)},
    ).write_zarr(path)


def read(path: str, *files: str) -> None:
    stored = anndata.read_zarr(path)
    for file in files:
        for backed in (None, "r"):
            got = anndata.read_h5ad(file, backed=backed)
            pd.testing.assert_frame_equal(got.obs, stored.obs)
            pd.testing.assert_frame_equal(got.var, stored.var)
            np.testing.assert_array_equal(got.X[:].toarray(), stored.X.toarray())
            np.testing.assert_array_equal(got.obsm["pca"], stored.obsm["pca"])
            assert got.uns["title"] == stored.uns["title"]
            assert list(got.uns["names"]) == list(stored.uns["names"])
    print(version("anndata"))


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
