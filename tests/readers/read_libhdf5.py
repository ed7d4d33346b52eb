"""Reads HDF5 files with any libhdf5, of any version, by ctypes: a program of its own.

    python read_libhdf5.py LIBRARY FILE SPARSE STRINGS DATASET...

prints JSON: the library's version, each dataset's digest, the attributes of the root group, the
first and last element of `/sparse` in SPARSE, and the elements of `/words` in STRINGS.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_ulonglong

_STRING, _INTEGER = 3, 0


class Library:
    """The few functions of the C API that reading takes."""

    def __init__(self, path: str) -> None:
        self.c = ctypes.CDLL(path)
        numbers = [c_uint(), c_uint(), c_uint()]
        self.c.H5open()
        self.c.H5get_libversion(*map(byref, numbers))
        self.version = ".".join(str(n.value) for n in numbers)
        # Identifiers grew from 32 to 64 bits in 1.10.
        self.id = c_int if numbers[1].value < 10 and numbers[0].value == 1 else ctypes.c_int64

    def call(self, name: str, *arguments: object, restype: object = None) -> int:
        function = getattr(self.c, name)
        function.restype = restype or self.id
        function.argtypes = None
        result = function(*arguments)
        if isinstance(result, int) and result < 0:
            raise OSError(f"{name} failed")
        return int(result)

    def open(self, path: str) -> object:
        return self.id(self.call("H5Fopen", path.encode(), c_uint(0), self.id(0)))

    def shape(self, space: object) -> list[int]:
        rank = self.call("H5Sget_simple_extent_ndims", space, restype=c_int)
        dims = (c_ulonglong * max(1, rank))()
        self.call("H5Sget_simple_extent_dims", space, dims, None, restype=c_int)
        return list(dims)[:rank]

    def dataset(self, file: object, name: str) -> bytes:
        """All elements in the file's own type."""
        dataset = self.id(self.call("H5Dopen2", file, name.encode(), self.id(0)))
        kind = self.id(self.call("H5Dget_type", dataset))
        space = self.id(self.call("H5Dget_space", dataset))
        count = self.call("H5Sget_simple_extent_npoints", space, restype=ctypes.c_int64)
        size = self.call("H5Tget_size", kind, restype=c_size_t)
        buffer = ctypes.create_string_buffer(count * size)
        everything = self.id(0)
        self.call(
            "H5Dread", dataset, kind, everything, everything, self.id(0), buffer, restype=c_int
        )
        return buffer.raw

    def strings(self, file: object, name: str) -> list[str]:
        """All elements of a dataset of strings of variable length."""
        dataset = self.id(self.call("H5Dopen2", file, name.encode(), self.id(0)))
        kind = self.id(self.call("H5Dget_type", dataset))
        space = self.id(self.call("H5Dget_space", dataset))
        count = self.call("H5Sget_simple_extent_npoints", space, restype=ctypes.c_int64)
        found = (c_char_p * count)()
        everything = self.id(0)
        self.call(
            "H5Dread", dataset, kind, everything, everything, self.id(0), found, restype=c_int
        )
        return [(text or b"").decode() for text in found]

    def element(self, file: object, name: str, last: bool) -> int:
        """The first or last element of a dataset of uint16."""
        dataset = self.id(self.call("H5Dopen2", file, name.encode(), self.id(0)))
        kind = self.id(self.call("H5Dget_type", dataset))
        space = self.id(self.call("H5Dget_space", dataset))
        shape = self.shape(space)
        start = (c_ulonglong * len(shape))(*[n - 1 if last else 0 for n in shape])
        count = (c_ulonglong * len(shape))(*[1] * len(shape))
        self.call("H5Sselect_hyperslab", space, c_int(0), start, None, count, None, restype=c_int)
        memory = self.id(self.call("H5Screate_simple", c_int(len(shape)), count, None))
        value = ctypes.c_uint16(9)
        self.call("H5Dread", dataset, kind, memory, space, self.id(0), byref(value), restype=c_int)
        return value.value

    def attribute(self, file: object, path: str, name: str) -> object:
        """A text, a number or a list of numbers."""
        attribute = self.id(
            self.call("H5Aopen_by_name", file, path.encode(), name.encode(), self.id(0), self.id(0))
        )
        kind = self.id(self.call("H5Aget_type", attribute))
        shape = self.shape(self.id(self.call("H5Aget_space", attribute)))
        if self.call("H5Tget_class", kind, restype=c_int) == _STRING:
            text = c_char_p()
            self.call("H5Aread", attribute, kind, byref(text), restype=c_int)
            return (text.value or b"").decode()
        whole = self.call("H5Tget_class", kind, restype=c_int) == _INTEGER
        count = shape[0] if shape else 1
        values = ((ctypes.c_int64 if whole else ctypes.c_double) * count)()
        self.call("H5Aread", attribute, kind, values, restype=c_int)
        return list(values) if shape else values[0]


def main(library: str, path: str, sparse: str, strings: str, *names: str) -> None:
    lib = Library(library)
    file = lib.open(path)
    attributes = ("text", "long", "int", "float", "ints")
    big = lib.open(sparse)
    print(
        json.dumps(
            {
                "version": lib.version,
                "datasets": {n: hashlib.sha256(lib.dataset(file, n)).hexdigest() for n in names},
                "attributes": {
                    at: {name: lib.attribute(file, at, name) for name in attributes}
                    for at in ("/", "/img")
                },
                "strings": lib.strings(lib.open(strings), "words"),
                "sparse": [lib.element(big, "sparse", last) for last in (False, True)],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
