"""Turn the space between two factors, so that both of them and what flows between them quantize well.

``up down = (up T⁻¹) (T down)`` for any invertible T. Factors of a truncated SVD put what is largest into the
first inner dimensions, hidden states have a mean that makes a few of them larger still, and one scale for the
whole activation leaves few levels for all the others. T makes the rows of ``down`` orthonormal, then turns
them at random: every inner dimension is about as wide as any other. Nothing is lost in fp32.

Source:
    Ashkboos et al., QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs (NeurIPS 2024), for rotations of
    activations; between two factors they cost nothing at run time.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Names of the constants of one ``down [in, rank]`` and of every ``up [rank, out]`` that reads it."""

    down: str
    ups: tuple[str, ...]


def rotate_inner(proto: Any) -> int:  # noqa: ANN401 - onnx is not typed
    """Turn the inner space of every pair of constant matrices, multiplied one after the other, in place.

    Args:
        proto: An fp32 ``onnx.ModelProto`` with its weights inside.

    Returns:
        How many spaces were turned; one that several ``up`` read counts once.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in proto.graph.initializer if len(tensor.dims) == 2}
    pairs = _pairs(proto.graph, set(constants))
    for pair in pairs:
        down = numpy_helper.to_array(constants[pair.down]).astype(np.float64)
        turn, back = turned(down)
        changed = {pair.down: down @ turn}
        for name in pair.ups:
            changed[name] = back @ numpy_helper.to_array(constants[name]).astype(np.float64)
        for name, matrix in changed.items():
            constants[name].CopyFrom(numpy_helper.from_array(matrix.astype(np.float32), name))
    return len(pairs)


def turned(down: Matrix) -> tuple[Matrix, Matrix]:
    """What to multiply ``down`` by from the right, and ``up`` from the left.

    Args:
        down: ``[in, rank]``, as a graph stores it.

    Returns:
        ``T [rank, rank]`` and its inverse; of a ``down`` without full rank a rotation alone.
    """
    rank = down.shape[1]
    rotation = _rotation(rank)
    if len(down) < rank:
        return rotation, rotation.T
    triangle: Matrix = np.asarray(np.linalg.qr(down, mode="r"), np.float64)
    # With a positive diagonal it is the only one, and changes as little as ``down`` does: what is tuned for
    # its rounding meets the same turn again.
    triangle *= np.where(triangle.diagonal() < 0, -1.0, 1.0)[:, None]
    if triangle.diagonal().min() <= 1e-6 * triangle.diagonal().max():
        return rotation, rotation.T
    return np.asarray(np.linalg.solve(triangle, rotation), np.float64), rotation.T @ triangle


@functools.cache
def _rotation(rank: int) -> Matrix:
    """Always the same one; remembered, as it is asked for in every step of a tuning."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(rank, rank)))
    rotation.setflags(write=False)
    return np.asarray(rotation)


def _pairs(graph: Any, constants: set[str]) -> list[_Pair]:  # noqa: ANN401 - onnx is not typed
    """Products with a constant whose result only such products read; no constant is used elsewhere."""
    readers: dict[str, list[Any]] = {output.name: [None] for output in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def multiplies(node: Any, by: str) -> bool:  # noqa: ANN401
        return bool(
            node is not None
            and node.op_type == "MatMul"
            and node.input[0] != node.input[1]
            and node.input[1] in constants
            and node.input[0] == by
            and len(readers[node.input[1]]) == 1
        )

    pairs = []
    for node in graph.node:
        if not multiplies(node, node.input[0] if node.input else ""):
            continue
        after = readers.get(node.output[0], [])
        if after and all(multiplies(other, node.output[0]) for other in after):
            pairs.append(_Pair(down=node.input[1], ups=tuple(other.input[1] for other in after)))
    # Three products in a row are two pairs that share a matrix: only the first of them.
    used: set[str] = set()
    apart = []
    for pair in pairs:
        if not used & {pair.down, *pair.ups}:
            apart.append(pair)
            used |= {pair.down, *pair.ups}
    return apart
