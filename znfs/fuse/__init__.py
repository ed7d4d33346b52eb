"""The file system: libfuse's callbacks over a tree.

Nothing else in znfs imports the FUSE binding. `binding` finds mfusepy (over libfuse3) or
fusepy (over libfuse2, with `ZNFS_FUSE_BINDING=fusepy`), which give the C structures. The callbacks
are in `operations`, what they keep of open files and folders in `handles`, what has the kernel read
ahead over the gaps of HDF5 files in `readahead`, the mount and its threads in `session`: a read
fills libfuse's own buffer, a listing streams, and as many threads as wait for a store can wait
without delaying the others.
"""

from znfs.fuse.binding import Binding, NoBinding, load_binding
from znfs.fuse.operations import Operations
from znfs.fuse.session import Session, is_dead, mount_options

__all__ = [
    "Binding", "NoBinding", "Operations", "Session", "is_dead", "load_binding", "mount_options",
]  # fmt: skip
