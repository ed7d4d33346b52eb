"""The hierarchy below a group, if it is small enough to read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from znfs import deadline
from znfs.arrays.array import Array, Group
from znfs.errors import Denied, Unsupported
from znfs.meta import brief
from znfs.views import TOO_LONG, fits

# Reading so many metadata documents is what `stat` of a group's file may cost.
MOST_DESCENDANTS = 1000
AT_ONCE = 16


@dataclass
class Branch:
    """A group and all below it. `left_out` names children that cannot be shown, and why."""

    group: Group
    children: dict[str, Branch | Array] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def nodes(self) -> Iterator[Array | Group]:
        """This group and all below it, in a fixed order."""
        yield self.group
        for child in self.children.values():
            if isinstance(child, Branch):
                yield from child.nodes()
            else:
                yield child

    def version(self) -> str:
        """Changes whenever any node, or the set of nodes, does."""
        if self.group.at_hand:
            return self.group.version
        digest = hashlib.blake2b(digest_size=16)
        for node in self.nodes():
            digest.update(f"{node.path}\0{node.version}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def walk(group: Group) -> Branch | None:
    """The hierarchy below `group`; None if reading it takes more than MOST_DESCENDANTS documents.

    Consolidated metadata has all documents at hand, however many. Raises StoreError.
    """
    root = Branch(group)
    at_hand = group.at_hand
    level = [root]
    seen = 0
    with ThreadPoolExecutor(AT_ONCE, "znfs-hdf5-walk") as pool:
        while level:
            wanted = [(branch, name) for branch in level for name in _names(branch)]
            seen += len(wanted)
            if seen > MOST_DESCENDANTS and not at_hand:
                return None
            read = map if at_hand or len(wanted) < 2 else pool.map
            look = deadline.carried(child)
            level = []
            at = [(branch.group, name) for branch, name in wanted]
            for (branch, name), found in zip(wanted, read(look, at), strict=True):
                if isinstance(found, Group):
                    below = branch.children[name] = Branch(found)
                    level.append(below)
                elif isinstance(found, Array):
                    branch.children[name] = found
                else:
                    branch.left_out[name] = str(found)
    return root


def arrays_below(group: Group) -> Iterator[Array]:
    """The arrays that `walk` finds, without reading on once nobody asks. Raises StoreError."""
    if not group.at_hand:
        branch = walk(group)
        nodes = branch.nodes() if branch else ()
        yield from (node for node in nodes if isinstance(node, Array))
        return
    waiting = [Branch(group)]
    while waiting:
        branch = waiting.pop()
        for name in _names(branch):
            found = child((branch.group, name))
            if isinstance(found, Array):
                yield found
            elif isinstance(found, Group):
                waiting.append(Branch(found))


def _names(branch: Branch) -> list[str]:
    """The names of the children to be shown, sorted; others are noted."""
    names = []
    for name in sorted(branch.group.names()):
        if fits(name):
            names.append(name)
        else:
            branch.left_out[brief(name)] = TOO_LONG
    return names


def child(at: tuple[Group, str]) -> Array | Group | Unsupported:
    """The child of that name of a group, or why it cannot be shown. Raises StoreError."""
    group, name = at
    try:
        return group.child(name) or Unsupported("no array or group that can be read")
    except Denied as error:
        return Unsupported(str(error))
