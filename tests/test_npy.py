"""`NAME.npy`: headers of all of NumPy's versions."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from znfs.node import File
from znfs.tree import open_tree


@pytest.mark.parametrize(
    ("names", "version"),
    [
        (["a", "b"], (1, 0)),
        (["é", "b"], (1, 0)),
        (["日本", "b"], (3, 0)),
        (["\ud800", "a'\"\\\n"], (1, 0)),
        ([f"field {i}" for i in range(4000)], (2, 0)),
        ([f"字 {i}" for i in range(4000)], (3, 0)),
    ],
    ids=["ASCII", "Latin-1", "UTF-8", "odd", "long", "long UTF-8"],
)
def test_structs(tmp_path: Path, names: list[str], version: tuple[int, int]) -> None:
    document = {
        "zarr_format": 2, "shape": [3, 2], "chunks": [3, 2], "compressor": None, "order": "C",
        "dtype": [[name, "<i2"] for name in names], "filters": None, "fill_value": None,
    }  # fmt: skip
    (tmp_path / ".zarray").write_text(json.dumps(document))
    values = np.arange(6 * len(names), dtype="<i2")
    (tmp_path / "0.0").write_bytes(values.tobytes())
    tree = open_tree(str(tmp_path))
    file = tree.resolve(f"{tmp_path.name}.npy")
    assert isinstance(file, File)
    whole = io.BytesIO(file.read(0, file.size))
    assert np.lib.format.read_magic(whole) == version
    whole.seek(0)
    found: Any = np.load(whole, max_header_size=1 << 20)
    assert found.dtype.names == tuple(names)
    assert found.shape == (3, 2)
    np.testing.assert_array_equal(found.view("<i2").ravel(), values)
    assert (file.size - values.nbytes) % 64 == 0
