"""Where the weights of an ONNX file are, read from its bytes.

The onnx package would take 10 MiB of memory to say so, a tenth of what a small translation needs in all.
An ONNX file is a protobuf message; only the fields on the way to a tensor's location are walked into, all
others are skipped. What is unusual (a location given twice, say) is listed as often as it is there.

Source: ``onnx.proto`` and the protobuf encoding, https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from edgelr.errors import DamagedArtifactError

# Message -> number of a field -> the message it holds.
MESSAGES = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
}
_TENSOR_NAME, _TENSOR_EXTERNAL = 8, 13  # of TensorProto
_KEY, _VALUE = 1, 2  # of an entry of its external data


def external_locations(path: Path) -> list[tuple[str, str]]:
    """Every weight that is in another file.

    Args:
        path: The ONNX file.

    Returns:
        Name of the weight, and the location it is at, relative to the folder of ``path``.

    Raises:
        DamagedArtifactError: It cannot be read, or is no protobuf message.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return list(_locations(data, 0, len(data), "ModelProto"))
    except (OSError, ValueError, IndexError) as error:
        raise DamagedArtifactError(
            f"{path} cannot be read as an ONNX model: {error}", "build it again"
        ) from error


def _locations(data: mmap.mmap, start: int, end: int, message: str) -> Iterator[tuple[str, str]]:
    """Of a message from ``start`` to ``end``."""
    if message == "TensorProto":
        yield from _tensor(data, start, end)
        return
    for number, begin, stop in _fields(data, start, end):
        if (inner := MESSAGES[message].get(number)) is not None:
            yield from _locations(data, begin, stop, inner)


def _tensor(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[str, str]]:
    name, found = "", []
    for number, begin, stop in _fields(data, start, end):
        if number == _TENSOR_NAME:
            name = _text(data, begin, stop)
        elif number == _TENSOR_EXTERNAL:
            entry = [(part, _text(data, *value)) for part, *value in _fields(data, begin, stop)]
            if (_KEY, "location") in entry:
                found += [text for part, text in entry if part == _VALUE]
    yield from ((name, location) for location in found)


def _text(data: mmap.mmap, start: int, end: int) -> str:
    return data[start:end].decode("utf-8", "replace")


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of the fields that hold bytes: texts, tensors, other messages."""
    place = start
    while place < end:
        tag, place = _varint(data, place)
        match tag & 7:  # how it is written
            case 0:
                _, place = _varint(data, place)
            case 1:
                place += 8
            case 5:
                place += 4
            case 2:
                length, place = _varint(data, place)
                if place + length <= end:
                    yield tag >> 3, place, place + length
                place += length
            case kind:
                raise ValueError(f"a field of the kind {kind} at byte {place}")
    if place > end:
        raise ValueError(f"a field goes beyond its message at byte {end}")


def _varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the place after it."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
    raise ValueError(f"a number without an end at byte {place}")
