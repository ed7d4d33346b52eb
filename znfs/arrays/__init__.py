"""Arrays as files' bytes: blocks out of the cache, bands, extents.

An `array` is metadata bound to chunks, codecs and the cache, and gives blocks. A row of these put
together is a band (`bands`, laid out in `bandgrid`). `extents` are what a virtual file is made of,
of blocks and bands and of headers; `lookahead` tells what a reader will want next.
"""
