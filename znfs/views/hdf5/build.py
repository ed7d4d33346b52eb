"""From arrays and groups to the objects of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from znfs.arrays.array import Array
from znfs.errors import Unsupported
from znfs.views.hdf5 import conversion, netcdf
from znfs.views.hdf5.netcdf import Scales
from znfs.views.hdf5.objects import GroupObject, dataset, group_object
from znfs.views.hdf5.storage import Layout
from znfs.views.hdf5.structures import MAX_FILE, PAGE
from znfs.views.hdf5.walk import Branch

_HEADERS = 1 << 40  # far more than the headers of a file take


@dataclass
class Built:
    """The root group of a file, and what is not as it was in the store."""

    root: GroupObject
    netcdf: bool  # whether dimensions have names
    remarks: list[str] = field(default_factory=list)
    size: int = 0  # at least what data and indexes take


def build_array(array: Array, name: str, layout: Layout) -> Built:
    """A root group that holds one array. Raises Unsupported."""
    built = Built(GroupObject({}), bool(netcdf.dimension_names(array.meta)))
    _add_array(built, built.root, array, name, layout)
    _, remarks = netcdf.attach(built.root, {name: array}, {}, built.netcdf)
    built.remarks += remarks
    return built


def build_group(branch: Branch, layout: Layout) -> Built:
    """The hierarchy below a group; what HDF5 cannot hold is left out and remarked on."""
    arrays = (node for node in branch.nodes() if isinstance(node, Array))
    has_names = any(netcdf.dimension_names(array.meta) for array in arrays)
    built = Built(group_object(branch.group, layout), has_names)
    waiting: list[tuple[Branch, GroupObject, Scales, str]] = [(branch, built.root, {}, "")]
    while waiting:
        this, target, scales, path = waiting.pop()
        for name, reason in this.left_out.items():
            built.remarks.append(f"{path}{name} is left out: {reason}")
        added = _add_children(built, this.children, target, layout, path)
        scales, remarks = netcdf.attach(target, added, scales, built.netcdf)
        built.remarks += [f"{path or '/'}: {remark}" for remark in remarks]
        for name, child in this.children.items():
            below = target.children.get(name)
            if isinstance(child, Branch) and isinstance(below, GroupObject):
                waiting.append((child, below, scales, f"{path}{name}/"))
    return built


def _add_children(
    built: Built,
    children: Mapping[str, Branch | Array],
    target: GroupObject,
    layout: Layout,
    path: str,
) -> dict[str, Array]:
    arrays = {}
    for name, child in children.items():
        if isinstance(child, Branch):
            target.children[name] = group_object(child.group, layout)
            continue
        try:
            _add_array(built, target, child, name, layout)
            arrays[name] = child
            built.remarks += [f"{path}{name}: {told}" for told in _of_netcdf(child, layout, built)]
        except Unsupported as error:
            built.remarks.append(f"{path}{name} is left out: {error}")
    return arrays


def _of_netcdf(array: Array, layout: Layout, built: Built) -> list[str]:
    """What becomes of an array's type only because the file is NetCDF: nothing else tells."""
    if not built.netcdf or netcdf.dimension_names(array.meta):
        return []
    dtype, promote = array.meta.dtype, layout.promote_float16
    alone = conversion.stored(dtype, promote_float16=promote).remarks
    here = conversion.stored(dtype, promote_float16=promote, netcdf=True).remarks
    return [remark for remark in here if remark not in alone]


def _add_array(built: Built, target: GroupObject, array: Array, name: str, layout: Layout) -> None:
    made = dataset(array, layout, netcdf=built.netcdf)
    size = made.storage.index_size + made.storage.data_size + PAGE
    if built.size + size > MAX_FILE - _HEADERS:
        raise Unsupported("an HDF5 file cannot be that large")
    built.size += size
    target.children[name] = made
