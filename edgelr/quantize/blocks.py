"""Tables in blocks of 8 or 4 bits, looked up and multiplied by in the same bytes.

A vocabulary that is embedding and head is the largest matrix of a small decoder. ``MatMulNBits`` wants it as
``[tokens, blocks, bytes of a block]``, and ``GatherBlockQuantized`` looks rows up in exactly that: it is
stored once, whoever reads it. Blocks are symmetric (no zero points), so that both read the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from edgelr.quantize.vocabulary import SMALLEST_TABLE
from edgelr.runtime.block_size import block_of
from edgelr.runtime.subgraphs import read_inside

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Bits = Literal[4, 8]

_MICROSOFT = "com.microsoft"
_ACCURACY_LEVEL = 4  # of MatMulNBits: activations are rounded to int8, block by block
_LONGEST_SHAPE = 64  # axes; a larger constant is no shape


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Bits of a number, and how many numbers of a row share a scale, at most; see ``block_of``."""

    bits: Bits
    size: int


@dataclass(frozen=True, kw_only=True)
class _Table:
    """A matrix that rows are looked up in, ``[rows, dim]``, or, transposed, its columns."""

    matrix: Any
    transposed: bool

    @property
    def dim(self) -> int:
        """Numbers of a row."""
        return int(self.matrix.dims[0 if self.transposed else 1])


def quantize_shared_tables(
    proto: Any,  # noqa: ANN401 - onnx is not typed
    settings: Blocks,
    chosen: Collection[str] | None = None,
) -> int:
    """Replace every large fp32 table that is looked up, and the products with its transpose, in place.

    Args:
        proto: An ``onnx.ModelProto`` with its weights inside.
        settings: Bits and block size.
        chosen: Names of the matrices that may be; all when None.

    Returns:
        How many tables were replaced.
    """
    from onnx import helper

    graph = proto.graph
    tables = {
        name: table for name, table in _tables(graph).items() if chosen is None or table.matrix.name in chosen
    }
    axes = _axes(proto) if tables else {}
    blocks = {
        name: replace(settings, size=block_of(table.dim, settings.size)) for name, table in tables.items()
    }
    for name, table in tables.items():
        _store(graph, name, table, blocks[name])
    multiplied = {table.matrix.name: name for name, table in tables.items() if table.transposed}
    nodes = []
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in tables:
            name = node.input[0]
            nodes.append(_look_up(node, name, blocks[name]))
            nodes += _join(graph, node, tables[name].dim, axes.get(node.input[1]), blocks[name])
        elif node.op_type == "MatMul" and node.input[1] in multiplied:
            name = multiplied[node.input[1]]
            nodes.append(_multiply(node, name, tables[name].matrix, blocks[name]))
        elif not (node.op_type == "Transpose" and node.output[0] in tables):
            nodes.append(node)
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    gone = {table.matrix.name for table in tables.values()}
    kept = [tensor for tensor in graph.initializer if tensor.name not in gone]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if tables and _MICROSOFT not in {entry.domain for entry in proto.opset_import}:
        proto.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    return len(tables)


def _store(graph: Any, name: str, table: _Table, settings: Blocks) -> None:  # noqa: ANN401 - onnx is not typed
    """Add the blocks of a table, and their scales as both readers want them."""
    import numpy as np
    from onnx import helper, numpy_helper

    weights = numpy_helper.to_array(table.matrix)
    codes, scales = quantize_blocks(weights.T if table.transposed else weights, settings)
    constants = {
        "blocks": codes,
        "scales": scales,
        "shape": np.array([*scales.shape, 1], np.int64),
    }
    for key, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(value, f"{name}.{key}"))
    # The look-up has an axis more than the product has.
    shaped = helper.make_node(
        "Reshape", [f"{name}.scales", f"{name}.shape"], [f"{name}.scale"], name=f"{name}.scale"
    )
    graph.node.insert(0, shaped)


def quantize_blocks(
    table: NDArray[np.float32], settings: Blocks
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Round each block of each row, with a symmetric scale.

    Args:
        table: ``[rows, dim]``.
        settings: Bits and block size.

    Returns:
        Codes ``[rows, blocks, bytes of a block]``, of 4 bits two to a byte, the first in the low half; scales
        ``[rows, blocks]``. A number is ``scale * (code - 2 ** (bits - 1))``.
    """
    import numpy as np

    bits, block_size = settings.bits, settings.size
    rows, dim = table.shape
    blocks = -(-dim // block_size)
    padded = np.zeros((rows, blocks * block_size), np.float32)
    padded[:, :dim] = table
    blocked = padded.reshape(rows, blocks, block_size)
    half = 2 ** (bits - 1)
    # The end of the range with one more code is for the side that reaches further.
    at = np.abs(blocked).argmax(axis=2, keepdims=True)
    scales = np.take_along_axis(blocked, at, axis=2) / np.float32(-half)
    scales[scales == 0] = 1.0
    codes = np.clip(np.rint(blocked / scales) + half, 0, 2 * half - 1).astype(np.uint8)
    if bits == 4:
        codes = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return codes, scales[..., 0].astype(np.float32)


def _tables(graph: Any) -> dict[str, _Table]:  # noqa: ANN401 - onnx is not typed
    """Looked-up value -> where its rows are."""
    from onnx import TensorProto

    constants = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
    }
    turned = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Transpose" and node.input[0] in constants and _turns(node)
    }
    looked_up = [node.input[0] for node in graph.node if _looks_up(node)]
    found = {}
    for name in dict.fromkeys(looked_up):
        matrix = constants.get(turned.get(name, name))
        large = matrix is not None and matrix.dims[0] * matrix.dims[1] >= SMALLEST_TABLE
        # Half of what is read in two ways would stay fp32 when it is small.
        if matrix is not None and (large or name in turned) and _only_such_readers(graph, name, matrix.name):
            found[name] = _Table(matrix=matrix, transposed=name in turned)
    return found


def _looks_up(node: Any) -> bool:  # noqa: ANN401 - onnx is not typed
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return node.op_type == "Gather" and axis == 0


def _turns(node: Any) -> bool:  # noqa: ANN401 - onnx is not typed
    """Whether a Transpose of a matrix changes anything: its own order of axes may be the one there is."""
    return all(list(attribute.ints) == [1, 0] for attribute in node.attribute if attribute.name == "perm")


def _only_such_readers(graph: Any, table: str, matrix: str) -> bool:  # noqa: ANN401 - onnx is not typed
    """Whether a table is only looked up, and its matrix else only multiplied by."""
    if {table, matrix} & ({value.name for value in graph.output} | read_inside(graph)):
        return False
    for node in graph.node:
        for place, name in enumerate(node.input):
            allowed = (
                (name == table and _looks_up(node) and place == 0)
                or (name == matrix != table and node.op_type == "MatMul" and place == 1)
                or (name == matrix != table and node.output[0] == table)
            )
            if name in {table, matrix} and not allowed:
                return False
    return True


def _axes(proto: Any) -> dict[str, int]:  # noqa: ANN401 - onnx is not typed
    """Value -> how many axes it has, where that follows from the graph's inputs and constants."""
    from onnx import helper, shape_inference

    graph = proto.graph
    inputs, constants = list(graph.input), []
    declared = {value.name for value in inputs}
    # Without the weights: a message ends at 2 GiB, and only small constants say anything about shapes.
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= _LONGEST_SHAPE:
            constants.append(tensor)
        elif tensor.name not in declared:
            inputs.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    # Without what is declared of values between: a runtime only warns when that is not so.
    light = helper.make_graph(graph.node, "g", inputs, [], constants)
    model = helper.make_model(light, opset_imports=proto.opset_import, functions=proto.functions)
    try:
        known = shape_inference.infer_shapes(model, data_prop=True).graph
    except shape_inference.InferenceError:  # for instance of operators that onnx does not know
        return {}
    shaped = [
        value for value in (*known.input, *known.value_info) if value.type.tensor_type.HasField("shape")
    ]
    return {tensor.name: len(tensor.dims) for tensor in graph.initializer} | {
        value.name: len(value.type.tensor_type.shape.dim) for value in shaped
    }


def _look_up(node: Any, name: str, settings: Blocks) -> Any:  # noqa: ANN401 - onnx is not typed
    """Blocks of the rows of a table, ``[*axes of the ids, blocks, size]``."""
    from onnx import helper

    out = node.output[0]
    return helper.make_node(
        "GatherBlockQuantized",
        [f"{name}.blocks", node.input[1], f"{name}.scale"],
        [f"{out}.blocks"],
        name=f"{out}.look_up",
        domain=_MICROSOFT,
        bits=settings.bits,
        block_size=settings.size,
        gather_axis=0,
        quantize_axis=2,
    )


def _join(graph: Any, node: Any, dim: int, axes: int | None, settings: Blocks) -> list[Any]:  # noqa: ANN401
    """Make rows of the blocks that were looked up: join them, cut off what fills the last one.

    Every node costs a decoder microseconds a token. Of ids whose axes are known, one is enough.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    out = node.output[0]
    row = -(-dim // settings.size) * settings.size
    joined = out if row == dim else f"{out}.joined"
    constants, nodes = {}, []
    if axes is None:
        constants["row"] = [row]
        nodes = [
            helper.make_node("Shape", [node.input[1]], [f"{out}.ids"], name=f"{out}.ids"),
            helper.make_node(
                "Concat", [f"{out}.ids", f"{out}.row"], [f"{out}.shape"], name=f"{out}.shape", axis=0
            ),
        ]
    else:
        constants["shape"] = [*[0] * axes, row]  # 0: as long as it was
    nodes.append(helper.make_node("Reshape", [f"{out}.blocks", f"{out}.shape"], [joined], name=f"{out}.join"))
    if joined != out:
        constants |= {"first": [0], "dim": [dim], "last": [-1]}
        bounds = [f"{out}.{part}" for part in ("first", "dim", "last")]
        nodes.append(helper.make_node("Slice", [joined, *bounds], [out], name=f"{out}.cut"))
    for key, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), f"{out}.{key}"))
    return nodes


def _multiply(node: Any, name: str, matrix: Any, settings: Blocks) -> Any:  # noqa: ANN401
    """The product with the transpose of a table."""
    from onnx import helper

    return helper.make_node(
        "MatMulNBits",
        [node.input[0], f"{name}.blocks", f"{name}.scales"],
        [node.output[0]],
        name=f"{node.output[0]}.multiply",
        domain=_MICROSOFT,
        K=matrix.dims[0],
        N=matrix.dims[1],
        bits=settings.bits,
        block_size=settings.size,
        accuracy_level=_ACCURACY_LEVEL,
    )
