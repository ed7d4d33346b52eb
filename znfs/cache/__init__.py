"""What is kept of what was decoded: in memory, under one limit, and of that what it lets go of.

`blocks` is the cache, `recency` what it lets go of first, `memory` where blocks lie, and `spill`
where decoded data that was driven out goes, on disk. Encoded chunks on disk are `chunks.disk`.
"""

from znfs.cache.blocks import BlockCache

__all__ = ["BlockCache"]
