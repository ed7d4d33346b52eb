"""The hierarchy of a source: which path is an array, a group or a plain prefix, and its version.

`lookup` finds nodes and remembers them. What it asks the store for is in `documents` (of metadata)
and in `listings` (names below a prefix); what it finds besides arrays and groups, in `nodes`.
"""

from znfs.hierarchy.lookup import Hierarchy
from znfs.hierarchy.nodes import HierarchyNode, Prefix, Unreadable

__all__ = ["Hierarchy", "HierarchyNode", "Prefix", "Unreadable"]
