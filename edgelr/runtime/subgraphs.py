"""The branches and loop bodies of a graph, and the values that only they read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def subgraphs(graph: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - onnx is not typed
    """Every branch and loop body, at any depth, each with the node that it belongs to."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield node, inner
                yield from subgraphs(inner)


def read_inside(graph: Any) -> set[str]:  # noqa: ANN401 - onnx is not typed
    """Values that branches and loops read, their own ones included."""
    return {name for _, inner in subgraphs(graph) for node in inner.node for name in node.input}


def drop_unread(graph: Any) -> None:  # noqa: ANN401 - onnx is not typed
    """Leave out the constants that nothing reads and that are no output, in place."""
    read = {value.name for value in graph.output} | read_inside(graph)
    read = read.union(*(node.input for node in graph.node))
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
