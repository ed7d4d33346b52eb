"""The hierarchy of a source: which path is an array, a group or a plain prefix, and its version.

`lookup` finds nodes. What it found is remembered in `seen`; what it asks the store for is in
`documents` (of metadata) and in `listings` (names below a prefix); what metadata says of stores
that cannot list, in `promises`; what it finds besides arrays and groups, in `nodes`. `absence`
tells whether a chunk that is not there is fill value.
"""

from znfs.hierarchy.lookup import Hierarchy
from znfs.hierarchy.nodes import HierarchyNode, Prefix, Unreadable

__all__ = ["Hierarchy", "HierarchyNode", "Prefix", "Unreadable"]
