"""JSON attributes as HDF5 attributes. None is dropped: what HDF5 has no type for is JSON text.

| JSON                                    | HDF5                                            |
|-----------------------------------------|-------------------------------------------------|
| string                                  | variable-length UTF-8                           |
| integer                                 | int64, else uint64, else its digits as text     |
| number, NaN, infinity                   | float64                                         |
| true, false                             | uint8                                           |
| list of one of these                    | the same in one dimension                       |
| list of integers and floats             | float64 if no integer loses digits              |
| anything else; text holding NUL         | variable-length UTF-8 holding the JSON text     |

A list too long for an attribute message is one variable-length sequence, of text its JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from znfs.meta import Shape
from znfs.views import MOST_NAME_BYTES
from znfs.views.hdf5 import conversion, datatypes, messages
from znfs.views.hdf5.heap import GlobalHeap
from znfs.views.hdf5.messages import Message, ObjectHeader
from znfs.views.hdf5.structures import MAX_MESSAGE, late_address

_MOST_ATTRIBUTES = ObjectHeader.MOST_MESSAGES - 16  # room for what is no attribute
_MOST_DATA = MAX_MESSAGE - MOST_NAME_BYTES - 512  # the type and the dataspace take far less
_EXACT_FLOAT = 1 << 53

_REST = "znfs_further_attributes"


@dataclass(frozen=True)
class FixedText:
    """Text of fixed length, NUL-terminated: what the dimension scales specification asks for."""

    text: str


@dataclass(frozen=True)
class ReferenceLists:
    """For each dimension the address of the object header of its scale."""

    targets: tuple[Callable[[], int], ...]


def attribute_messages(
    attributes: Mapping[str, Any], heap: GlobalHeap, characters: bool = False
) -> list[Message]:
    """One message per attribute; values of variable length go to `heap`.

    With `characters`, single texts are of fixed length if a message has room for them.
    """
    items = list(zip(names(attributes), attributes.values(), strict=True))
    if (rest := name_of_rest(attributes)) is not None:
        items.sort(key=lambda item: _is_json(item[1]))  # else it keeps the order
        items[_MOST_ATTRIBUTES:] = [(rest, dict(items[_MOST_ATTRIBUTES:]))]
    return [_message(name, value, heap, characters) for name, value in items]


def name_of_rest(attributes: Collection[str]) -> str | None:
    """The attribute that holds, as JSON, those for which a header has no room; None if it has."""
    if len(attributes) <= _MOST_ATTRIBUTES:
        return None
    rest = _REST
    while rest in attributes:
        rest += "_"
    return rest


def _is_json(value: Any) -> bool:
    return not isinstance(value, FixedText | ReferenceLists | np.generic | np.ndarray)


def names(attributes: Iterable[str]) -> list[str]:
    """The names HDF5 shows: distinct, not empty, without NUL, of at most 255 bytes."""
    given = list(attributes)
    taken = set(given)
    out = []
    for name in given:
        legal = _legal(name)
        while legal != name and legal in taken:
            legal = _legal(legal + "_")
        taken.add(legal)
        out.append(legal)
    return out


def _legal(name: str) -> str:
    text = name.replace("\0", "\\u0000")
    text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates
    if len(text.encode()) > MOST_NAME_BYTES:
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        text = f"{text.encode()[: MOST_NAME_BYTES - 64].decode(errors='ignore')}~{digest}"
    return text or "_"


def as_json(value: Any) -> str:
    """The JSON text of a value, in characters that UTF-8 can hold."""
    text = json.dumps(value, ensure_ascii=False)
    return text if _encodable(text) else json.dumps(value)


def is_text(value: Any) -> bool:
    """True if `value` becomes JSON text though it is no string."""
    return not isinstance(value, str) and isinstance(_native(value), str)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _native(value: Any) -> np.ndarray[Any, Any] | str | list[str]:
    """A numpy scalar or 1-D array, a text, or a list of texts."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if isinstance(value, str):
        return value if "\0" not in value and _encodable(value) else as_json(value)
    if isinstance(value, bool | int | float):
        number = _numbers([value])
        return as_json(value) if number is None else number[0:1].reshape(())
    if isinstance(value, list | tuple):
        if value and all(isinstance(v, str) for v in value):
            texts = list(value)
            plain = all("\0" not in text and _encodable(text) for text in texts)
            return texts if plain and 16 * len(texts) <= _MOST_DATA else as_json(texts)
        numbers = _numbers(value)
        if numbers is not None:
            return numbers
    return as_json(value)


def _numbers(values: list[Any] | tuple[Any, ...]) -> np.ndarray[Any, Any] | None:
    """All numbers or all booleans as one type that holds each exactly; else None."""
    kinds = {type(v) for v in values}
    if kinds == {bool}:
        return np.array(values, np.uint8)
    if kinds == {int}:
        for dtype in (np.int64, np.uint64):
            limits = np.iinfo(dtype)
            if limits.min <= min(values) and max(values) <= limits.max:
                return np.array(values, dtype)
        return None
    if kinds <= {int, float}:
        if any(type(v) is int and abs(v) > _EXACT_FLOAT for v in values):
            return None
        return np.array(values, np.float64)
    return None


def _message(name: str, value: Any, heap: GlobalHeap, characters: bool) -> Message:
    if isinstance(value, FixedText):
        data = value.text.encode("utf-8", "surrogateescape") + b"\0"
        kind = datatypes.string(len(data), padding=datatypes.NULL_TERMINATED)
        return messages.attribute(name, kind, (), data, len(data))
    if isinstance(value, ReferenceLists):
        return _reference_lists(name, value, heap)
    native = _native(value)
    if isinstance(native, str):
        if characters and 0 < len(data := native.encode()) <= _MOST_DATA:
            return _characters(name, data)
        return _texts(name, [native], (), heap)
    if isinstance(native, list):
        return _texts(name, native, (len(native),), heap)
    how = conversion.stored(native.dtype)
    data = conversion.convert(native, how.dtype).tobytes()
    if len(data) <= _MOST_DATA:
        return messages.attribute(name, how.datatype, native.shape, data, len(data))
    kept = heap.add(data)
    return messages.attribute(
        name,
        datatypes.variable_length(how.datatype),
        (),
        lambda: kept.reference(native.size),
        16,
    )


def _characters(name: str, text: bytes) -> Message:
    """As netCDF-C writes them: there is no NUL behind."""
    charset = datatypes.ASCII if text.isascii() else datatypes.UTF8
    kind = datatypes.string(len(text), charset, datatypes.NULL_TERMINATED)
    return messages.attribute(name, kind, (), text, len(text))


def _texts(name: str, texts: list[str], shape: Shape, heap: GlobalHeap) -> Message:
    encoded = [text.encode() for text in texts]
    kept = [heap.add(text) for text in encoded]
    lengths = [len(text) for text in encoded]

    def data() -> bytes:
        return b"".join(k.reference(n) for k, n in zip(kept, lengths, strict=True))

    return messages.attribute(name, datatypes.VARIABLE_STRING, shape, data, 16 * len(texts))


def _reference_lists(name: str, lists: ReferenceLists, heap: GlobalHeap) -> Message:
    kept = [heap.add_late(8, late_address(target)) for target in lists.targets]
    return messages.attribute(
        name,
        datatypes.variable_length(datatypes.OBJECT_REFERENCE),
        (len(kept),),
        lambda: b"".join(k.reference(1) for k in kept),
        16 * len(kept),
    )
