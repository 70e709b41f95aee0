"""Weights that several graphs of a package have in common, stored once in a file beside them.

A translation's encoder and decoder look tokens up in the same table. In one file each it would be there
twice; graphs may also say where in another file a weight is, and then say the same place.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WEIGHTS = "shared.data"
_SMALLEST = 2**14  # bytes; below it a weight is not worth an entry
_ALIGNMENT = 2**12  # a page: what begins on one can be mapped into memory as it is


def share_weights(paths: Sequence[Path]) -> int:
    """Move equal weights of graphs into ``shared.data``, in place; the same graphs give the same bytes.

    Args:
        paths: Files of one folder. Those whose weights are in files of their own already are left alone.

    Returns:
        Bytes saved.
    """
    import onnx

    models = {path: onnx.load(path, load_external_data=False) for path in paths}
    held = {path: model for path, model in models.items() if not _is_external(model)}
    count: Counter[str] = Counter()
    for model in held.values():
        count.update({_digest(tensor) for tensor in _large(model)})
    places: dict[str, tuple[int, int]] = {}
    content = bytearray()
    saved = 0
    for model in held.values():
        for tensor in _large(model):
            key = _digest(tensor)
            if count[key] < 2:
                continue
            if key in places:
                saved += places[key][1]
            else:
                content += bytes(-len(content) % _ALIGNMENT)
                places[key] = (len(content), len(tensor.raw_data))
                content += tensor.raw_data
            _refer(tensor, *places[key])
    if not places:
        return 0
    (next(iter(held)).parent / WEIGHTS).write_bytes(bytes(content))
    for path, model in held.items():
        path.write_bytes(model.SerializeToString(deterministic=True))
    return saved


def _large(model: Any) -> list[Any]:  # noqa: ANN401 - onnx is not typed
    return [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= _SMALLEST]


def _is_external(model: Any) -> bool:  # noqa: ANN401 - onnx is not typed
    return any(tensor.external_data for tensor in model.graph.initializer)


def _digest(tensor: Any) -> str:  # noqa: ANN401 - onnx is not typed
    kind = f"{tensor.data_type} {list(tensor.dims)} "
    return hashlib.sha256(kind.encode() + tensor.raw_data).hexdigest()


def _refer(tensor: Any, offset: int, length: int) -> None:  # noqa: ANN401 - onnx is not typed
    from onnx import TensorProto

    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
