"""Name the layers of an exported graph as the model does: what a recipe's globs and every report go by."""

from __future__ import annotations

from collections import Counter
from typing import Any

from edgelr.runtime.layer_names import SCOPES, module_path

_PRODUCTS = frozenset({"MatMul", "Gemm"})
_LAYERS = _PRODUCTS | {"Gather", "Conv"}


def name_layers(model: Any) -> None:  # noqa: ANN401 - onnx_ir.Model
    """Name each node that multiplies by a constant or looks rows of one up by the path of its module.

    The factors of a layer are ``<path>.down`` and ``<path>.up``. A module that is called again has a number
    after its path.

    Args:
        model: An ``onnx_ir.Model`` with the exporter's metadata; changed in place.
    """
    count: Counter[str] = Counter()
    for node in model.graph:
        path = module_path(node.metadata_props.get(SCOPES, ""))
        if node.op_type not in _LAYERS or not path or not _reads_constant(node):
            continue
        name = path + _factor(node)
        count[name] += 1
        node.name = name if count[name] == 1 else f"{name}:{count[name]}"


def _reads_constant(node: Any) -> bool:  # noqa: ANN401 - onnx_ir.Node
    return any(value is not None and _is_constant(value) for value in node.inputs[:2])


def _is_constant(value: Any) -> bool:  # noqa: ANN401 - onnx_ir.Value
    from onnx_ir.convenience import get_const_tensor

    if get_const_tensor(value) is not None:
        return True
    maker = value.producer()  # a head that is tied to a table multiplies by its transpose
    return bool(maker is not None and maker.op_type == "Transpose" and _is_constant(maker.inputs[0]))


def _factor(node: Any) -> str:  # noqa: ANN401 - onnx_ir.Node
    """Which factor of a layer a product is: one reads the other's output, with nothing between."""
    if node.op_type not in _PRODUCTS:
        return ""
    before = node.inputs[0].producer()
    if before is not None and before.op_type in _PRODUCTS and _reads_constant(before):
        return ".up"
    readers = [use.node for use in node.outputs[0].uses()]
    thin = bool(readers) and all(each.op_type in _PRODUCTS and _reads_constant(each) for each in readers)
    return ".down" if thin else ""
