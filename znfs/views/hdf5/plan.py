"""The address plan: which bytes of a file are where.

1. superblock
2. object headers, and each group's B-tree, symbol table nodes and local heap, depth first
3. global heap
4. chunk index of each dataset
5. data of each dataset, from a multiple of 4096 on
"""

from __future__ import annotations

from collections.abc import Sequence

from znfs.arrays.extents import Literal, Zeros
from znfs.node import Extent, File
from znfs.views.hdf5.btree import SymbolTable
from znfs.views.hdf5.heap import GlobalHeap
from znfs.views.hdf5.messages import ObjectHeader
from znfs.views.hdf5.objects import Dataset, GroupObject, link_name
from znfs.views.hdf5.structures import PAGE, align
from znfs.views.hdf5.superblock import SIZE, superblock


class PlannedFile(File):
    """A file that holds `root` and all below it, at addresses that are known."""

    has_gaps = True

    def __init__(self, root: GroupObject, version: str, mtime: float) -> None:
        super().__init__(_extents(root), version, mtime)


def _extents(root: GroupObject) -> list[Extent]:
    placed = Placement(SIZE)
    placed.add(root)
    placed.place_data()
    table = placed.table(root)
    head = superblock(root.address, table.address, table.heap_address, placed.end)
    return [Literal(head), *placed.extents()]


class Placement:
    """Gives objects their addresses, from `base` on, in the order they come."""

    def __init__(self, base: int) -> None:
        self.end = base
        self._heap = GlobalHeap()
        self._objects: list[tuple[Dataset | GroupObject, ObjectHeader]] = []
        self._tables: dict[int, SymbolTable] = {}
        self._child_addresses: dict[int, Sequence[int]] = {}
        self._gaps: list[int] = []

    def table(self, group: GroupObject) -> SymbolTable:
        """The symbol table of a group that was added."""
        return self._tables[id(group)]

    def add(self, root: Dataset | GroupObject) -> None:
        """Place the headers of `root` and all below it."""
        waiting: list[Dataset | GroupObject] = [root]
        while waiting:
            this = waiting.pop()
            if isinstance(this, GroupObject):
                names = sorted(this.children, key=link_name)
                self.add_group(this, [link_name(name) for name in names])
                waiting += [this.children[name] for name in reversed(names)]
            else:
                self._add_header(this, this.header(self._heap))

    def add_group(self, group: GroupObject, names: list[bytes]) -> SymbolTable:
        """Place the header of a group, and the symbol table of its links, sorted by `names`.

        Where the targets of the links are not the group's children, `link` says where they are.
        """
        table = self._tables[id(group)] = SymbolTable(names)
        self._add_header(group, group.header(self._heap, table))
        table.address = self.end
        self.end += table.size
        return table

    def link(self, group: GroupObject, addresses: Sequence[int]) -> None:
        """The addresses of the targets of the group's links, in the order of their names."""
        self._child_addresses[id(group)] = addresses

    def place_heap(self) -> None:
        """End the metadata: no object is added after."""
        self._heap.place(self.end)
        self.end += self._heap.size

    def place_data(self) -> None:
        """End the metadata, then place index and data of all datasets."""
        self.place_heap()
        for dataset in self._datasets():
            dataset.storage.index_address = self.end
            self.end += dataset.storage.index_size
        for dataset in self._datasets():
            if dataset.storage.data_size:
                start = align(self.end, PAGE)
                self._gaps.append(start - self.end)
                dataset.storage.data_address = start
                self.end = start + dataset.storage.data_size

    def extents(self) -> list[Extent]:
        """Everything placed, from `base` to `end`."""
        index: list[Extent] = []
        data: list[Extent] = []
        gaps = iter(self._gaps)
        for dataset in self._datasets():
            index += dataset.storage.index_extents()
            if dataset.storage.data_size:
                data += [Zeros(next(gaps)), *dataset.storage.data_extents()]
        return [Literal(self._metadata()), *index, *data]

    def _datasets(self) -> list[Dataset]:
        return [this for this, _ in self._objects if isinstance(this, Dataset)]

    def _add_header(self, this: Dataset | GroupObject, header: ObjectHeader) -> None:
        self._objects.append((this, header))
        this.address = self.end
        self.end += header.size

    def _metadata(self) -> bytes:
        out = []
        for this, header in self._objects:
            out.append(header.encode())
            if isinstance(this, GroupObject):
                out.append(self._tables[id(this)].encode(self._targets(this)))
        out.append(self._heap.encode())
        return b"".join(out)

    def _targets(self, group: GroupObject) -> Sequence[int]:
        given = self._child_addresses.get(id(group))
        if given is not None:
            return given
        return [group.children[n].address for n in sorted(group.children, key=link_name)]
