"""Chains of factors in a graph: a constant matrix whose every reader is a constant matrix again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx


@dataclass(frozen=True, kw_only=True)
class Chain:
    """``h = x @ downᵀ`` and, for each up, ``y = h @ upᵀ``; several ups share h in a joint factoring.

    Attributes:
        name: The layer's, where it has a named bias; else that of its first output.
        down: A MatMul by a constant ``[in, rank]``.
        ups: MatMuls of its output by constants ``[rank, out]``.
        rank: Inner dimension.
        outs: The ``out`` of each up.
    """

    name: str
    down: onnx.NodeProto
    ups: tuple[onnx.NodeProto, ...]
    rank: int
    outs: tuple[int, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """Names of the constants: the same for a layer that is called several times."""
        return (self.down.input[1], *(up.input[1] for up in self.ups))


def find_chains(graph: onnx.GraphProto) -> list[Chain]:
    """Every chain of fp32 factors whose constants serve nothing else, in the order of the nodes.

    Args:
        graph: Weights are initializers.
    """
    shapes = {
        tensor.name: tuple(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2
    }
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    outputs = {value.name for value in graph.output}
    chains: list[Chain] = []
    taken: set[str] = set()
    for down in graph.node:
        ups = readers[down.output[0]]
        candidates = [down, *ups]
        if (
            ups
            and all(_multiplies(node, shapes) for node in candidates)
            and down.output[0] not in outputs
            and not taken.intersection(node.output[0] for node in candidates)
        ):
            chains.append(_chain(down, ups, shapes, readers))
            taken.update(node.output[0] for node in candidates)
    return _with_constants_of_their_own(chains, readers)


def _multiplies(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return node.op_type == "MatMul" and node.input[1] in shapes and node.input[0] not in shapes


def _chain(
    down: onnx.NodeProto,
    ups: Sequence[onnx.NodeProto],
    shapes: Mapping[str, tuple[int, ...]],
    readers: Mapping[str, Sequence[onnx.NodeProto]],
) -> Chain:
    product = ups[0].output[0]
    biases = [name for node in readers[product] if node.op_type == "Add" for name in node.input]
    named = [name.removesuffix(".bias") for name in biases if name.endswith(".bias")]
    return Chain(
        name=named[0] if named else product,
        down=down,
        ups=tuple(ups),
        rank=shapes[down.input[1]][1],
        outs=tuple(shapes[up.input[1]][1] for up in ups),
    )


def _with_constants_of_their_own(
    chains: Sequence[Chain], readers: Mapping[str, Sequence[onnx.NodeProto]]
) -> list[Chain]:
    """A constant that something else reads has to be stored as it is, so that pivoting would save nothing."""
    calls = Counter(chain.key for chain in chains)
    return [chain for chain in chains if all(len(readers[name]) == calls[chain.key] for name in chain.key)]
