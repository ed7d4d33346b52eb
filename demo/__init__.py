"""A small demonstration: a volume of cells, stored as Zarr and as N5, mounted and read."""
