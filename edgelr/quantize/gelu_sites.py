"""Where a GELU is between two products, so that what stands for it can be made up for around it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from edgelr.runtime.subgraphs import read_inside


@dataclass(frozen=True, kw_only=True)
class Site:
    """A GELU between two products, and the constants around it that nothing else reads.

    Attributes:
        read: What the GELU reads.
        bias: What is added to that before, ``[width]``.
        gelu: What it gives.
        product: That multiplied by ``matrix``.
        matrix: ``[width, out]``.
        second: The second factor of a product of two, ``[out, dim]``.
        after: What is added then, ``[dim]``, or ``[out]`` without a second factor.
    """

    read: str
    bias: str
    gelu: str
    product: str
    matrix: str
    second: str | None
    after: str


def find_sites(graph: Any) -> list[Site]:  # noqa: ANN401 - onnx is not typed
    """Each GELU that a bias is added before, and that only a product with a constant and a bias reads.

    Args:
        graph: With its weights as initializers.
    """
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    reader = {name: node for node in graph.node for name in node.input}
    reads = Counter(name for node in graph.node for name in node.input)
    kept = {value.name for value in graph.output} | read_inside(graph)

    def next_of(value: str, kind: str, rank: int) -> tuple[str, str] | None:
        """What the one node that reads a value makes of it and a constant, and this constant."""
        node = reader.get(value)
        if node is None or node.op_type != kind or reads[value] > 1 or value in kept:
            return None
        places = [1] if kind == "MatMul" else [0, 1]
        constants = [node.input[place] for place in places if len(sizes.get(node.input[place], ())) == rank]
        return (node.output[0], constants[0]) if constants else None

    found = []
    for node in graph.node:
        before = made_by.get(node.input[0]) if node.op_type == "Gelu" else None
        if before is None or before.op_type != "Add" or reads[node.input[0]] > 1 or node.input[0] in kept:
            continue
        bias = next((name for name in before.input if len(sizes.get(name, ())) == 1), None)
        first = next_of(node.output[0], "MatMul", 2)
        second = None if first is None else next_of(first[0], "MatMul", 2)
        last = None if first is None else next_of((second or first)[0], "Add", 1)
        if bias is None or first is None or last is None:
            continue
        own = [bias, first[1], last[1]]
        if any(reads[name] > 1 or name in kept for name in own):
            continue
        found.append(
            Site(
                read=node.input[0],
                bias=bias,
                gelu=node.output[0],
                product=first[0],
                matrix=first[1],
                second=None if second is None else second[1],
                after=last[1],
            )
        )
    return found
