"""Virtual TIFF files: headers are made when read, pixels come from bands and blocks.

| modules                           | what                                                         |
|-----------------------------------|--------------------------------------------------------------|
| `structure`                       | classic TIFF and BigTIFF: IFDs, tags, types                  |
| `axes`                            | which axes are a plane's, and the order of planes            |
| `calibration`, `imagej`, `omexml` | sizes and units; what ImageJ and OME's readers are told      |
| `tiles`                           | an extent: the tiles of all planes                           |
| `planes`, `stacks`, `ometiff`     | `tiff/`; `NAME.tif` and `NAME.btf`; `NAME.ome.tif`           |
| `crop`                            | `crop/`: planes and stack of a box                           |
"""
