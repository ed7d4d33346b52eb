"""The file tree of a source, for FUSE, the commands and Python alike.

`tree` finds the file or directory of a path. `directories` are what nodes of the hierarchy hold,
`control` is `.znfs`, `provenance` says where a file comes from, `reader` makes it a Python file.
`survey` walks over all of it, `metrics` gives its status to Prometheus.
"""

from znfs.tree.tree import Tree, open_tree

__all__ = ["Tree", "open_tree"]
