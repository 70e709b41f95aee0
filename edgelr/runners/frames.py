"""Messages to a process that runs a graph: a line of JSON, and the arrays that it names."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

_LENGTH = struct.Struct("<I")


def pack(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> bytes:
    """Bytes of a message.

    Args:
        header: JSON values.
        arrays: By name; their order is kept.
    """
    told = [[name, str(array.dtype), list(array.shape)] for name, array in arrays.items()]
    text = json.dumps({**header, "arrays": told}).encode()
    parts = [_LENGTH.pack(len(text)), text]
    parts += [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
    return b"".join(parts)


def read(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The next message of a stream, as (header, arrays); None where it ends.

    Args:
        stream: Blocks until there is one.
    """
    start = stream.read(_LENGTH.size)
    if len(start) < _LENGTH.size:
        return None
    header = json.loads(stream.read(_LENGTH.unpack(start)[0]))
    arrays = {}
    for name, dtype, shape in header.pop("arrays"):
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        data = stream.read(count * kind.itemsize)
        arrays[name] = np.frombuffer(data, kind, count).reshape(shape).copy()
    return header, arrays
