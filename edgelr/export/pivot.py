"""Pivot the factors of an exported graph: the same function with ``rank²`` fewer numbers a layer.

Tuning needs ordinary factors; a device does not. Here ``up (down x)`` becomes, without any reordering of
channels while running (gathering along the last axis costs more than the layer):

* on the output side, ``h = down' x`` and ``y = [h, A h]`` or ``[A h, h]``: the pivots are the first or the
  last ``rank`` rows of ``up``;
* on the input side, ``y = up' (x₁ + B x₂)`` with ``x = [x₁, x₂]`` or ``[x₂, x₁]``: they are columns of
  ``down``.

Which rows come first is the model's accident, and dependent ones make A large. Where the channels may be
reordered for free (the hidden units of a feed-forward block), good pivots are put first or last before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgelr.export.chains import Chain, find_chains
from edgelr.lowrank.free_channels import find_channels, reorder
from edgelr.lowrank.pivot import Pivoted, pivot_rows, pivoted
from edgelr.lowrank.svd import Factors, Matrix

Side = Literal["output", "input"]
Arrays = dict[str, NDArray[Any]]

# Rounding is not what sets the limit: the embeddings of a real encoder (all-MiniLM-L6-v2, half of its linears
# kept, untuned) move by 1e-6, relative, with a growth below 4 and by 6e-6 with one of 45. int8 is: h is
# quantized with one scale, and A multiplies the error. The mean cosine to fp32 is 0.992 without pivots, 0.996
# with a growth below 4, 0.994 below 8, and falls from there (0.54 below 16 in a run without the order below).
GROWTH_LIMIT = 4.0


@dataclass(frozen=True, kw_only=True)
class PivotedChain:
    """What was done with a chain of factors.

    Attributes:
        name: The layer's, where it has a named bias; else that of its output.
        side: Where the pivots are; None when the factors stayed as they were.
        reordered: Whether channels were reordered to make them good.
        rank: Inner dimension.
        growth: Largest absolute value of A or B; infinite when the pivots of every choice are dependent.
        saved: Numbers that are no longer stored.
    """

    name: str
    side: Side | None
    reordered: bool
    rank: int
    growth: float
    saved: int


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """Pivots for a chain: on the output side, those of ``chain.ups[up]``."""

    side: Side
    leading: bool
    up: int
    pivoted: Pivoted


def pivot_graph(proto: onnx.ModelProto, limit: float = GROWTH_LIMIT) -> tuple[PivotedChain, ...]:
    """Pivot every chain of constant factors, in place.

    Args:
        proto: An fp32 graph with its weights as initializers.
        limit: Largest growth allowed; a chain without a choice within it stays as it is.

    Returns:
        What was done, in the order of the nodes; a layer that is called several times is there once.
    """
    graph = proto.graph
    chains = find_chains(graph)
    reordered = _reorder_channels(graph, chains)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    choices: dict[tuple[str, ...], _Choice | None] = {}
    done: dict[tuple[str, ...], PivotedChain] = {}
    added: Arrays = {}
    nodes: dict[str, list[onnx.NodeProto]] = {}
    for chain in chains:
        if chain.key not in choices:
            choice = _best(chain, weights)
            choices[chain.key] = choice
            done[chain.key] = _describe(chain, choice, reordered, limit)
        choice = choices[chain.key]
        if choice is not None and choice.pivoted.growth <= limit:
            rewrite = _rewrite_output if choice.side == "output" else _rewrite_input
            nodes |= rewrite(chain, choice, added)
    _replace(graph, nodes, added)
    return tuple(done.values())


def _reorder_channels(graph: onnx.GraphProto, chains: Sequence[Chain]) -> set[tuple[str, Side]]:
    """Put good pivots of one chain first and of another last, wherever channels are free to move.

    Two chains meet at the hidden units of a feed-forward block: the first layer's output and the second's
    input. The input chooses first: its pivots are the channels that matter most, which hold the outliers, and
    these are added to h without a product. int8 gains by that (cosine to fp32 0.997; 0.992 without pivots),
    and loses when they are gone (0.982). The output takes its pivots among the channels that are left.

    Returns:
        Constants whose pivots are good now, and the side of their chain that the pivots are on.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    ups = {up.input[1] for chain in chains for up in chain.ups}
    downs = {chain.down.input[1] for chain in chains}
    served: set[tuple[str, Side]] = set()
    for channels in find_channels(graph):
        claims: list[tuple[str, Side]] = [(name, "input") for name in channels.read if name in downs]
        claims += [(name, "output") for name in channels.written if name in ups]
        ends: list[list[int]] = []
        left = list(range(channels.size))
        for name, side in claims:
            array = _float64(tensors[name])
            by_channel = array.T if side == "output" else array
            if len(ends) < 2 and by_channel.shape[1] <= len(left):
                ends.append(pivot_rows(by_channel, left))
                left = [channel for channel in left if channel not in set(ends[-1])]
                served.add((name, side))
        if ends:
            reorder(graph, channels, [*ends[0], *left, *(ends[1] if len(ends) > 1 else [])])
    return served


def _float64(tensor: onnx.TensorProto) -> Matrix:
    return np.asarray(numpy_helper.to_array(tensor), np.float64)


def _best(chain: Chain, weights: Mapping[str, onnx.TensorProto]) -> _Choice | None:
    """The choice with the least growth, the first of equals; None when the pivots of all are dependent."""
    down = _float64(weights[chain.down.input[1]]).T
    ups = [_float64(weights[up.input[1]]).T for up in chain.ups]
    return min(_choices(down, ups), key=lambda choice: choice.pivoted.growth, default=None)


def _choices(down: Matrix, ups: Sequence[Matrix]) -> Iterator[_Choice]:
    """Every choice that needs no reordering: the ends of each up's rows, the ends of down's columns.

    Args:
        down: ``[rank, in]``.
        ups: ``[out, rank]`` each. All of them share the pivots of one.
    """
    together = np.concatenate(ups)
    ends: list[tuple[Side, int, int, int]] = []
    start = 0
    for number, up in enumerate(ups):
        ends.append(("output", number, start, start + len(up)))
        start += len(up)
    ends.append(("input", 0, 0, down.shape[1]))
    rank = down.shape[0]
    for side, number, first, end in ends:
        factors = Factors(up=together, down=down) if side == "output" else Factors(up=down.T, down=together.T)
        for leading in (True, False):
            rows = range(first, first + rank) if leading else range(end - rank, end)
            if end - first >= rank and (result := _pivoted_or_none(factors, rows)) is not None:
                yield _Choice(side=side, leading=leading, up=number, pivoted=result)


def _pivoted_or_none(factors: Factors, rows: Sequence[int]) -> Pivoted | None:
    try:
        return pivoted(factors, rows)
    except ValueError:  # dependent rows
        return None


def _describe(
    chain: Chain, choice: _Choice | None, served: set[tuple[str, Side]], limit: float
) -> PivotedChain:
    growth = float("inf") if choice is None else choice.pivoted.growth
    side = choice.side if choice is not None and growth <= limit else None
    constant = "" if choice is None else chain.ups[choice.up].input[1]
    if side == "input":
        constant = chain.down.input[1]
    return PivotedChain(
        name=chain.name,
        side=side,
        reordered=side is not None and (constant, side) in served,
        rank=chain.rank,
        growth=growth,
        saved=0 if side is None else chain.rank**2,
    )


def _rewrite_output(chain: Chain, choice: _Choice, added: Arrays) -> dict[str, list[onnx.NodeProto]]:
    """``h = down' x``; the up with the pivots becomes ``[h, A h]``, every other one a smaller product."""
    pivots, inner = chain.ups[choice.up], chain.down.output[0]
    sizes = list(chain.outs)
    sizes[choice.up] -= chain.rank
    parts = np.split(choice.pivoted.rest, np.cumsum(sizes)[:-1])
    if sizes[choice.up] == 0:
        inner = pivots.output[0]  # all of its rows are pivots: h itself is its output
    added[f"{chain.down.input[1]}.pivoted"] = choice.pivoted.down.T
    nodes = {chain.down.output[0]: [_matmul(chain.down, chain.down.input[0], inner)]}
    for up, part in zip(chain.ups, parts, strict=True):
        constant, output = f"{up.input[1]}.pivoted", up.output[0]
        if up is not pivots:
            nodes[output] = [_matmul(up, inner, output)]
        elif part.size:
            halves = [inner, f"{output}.rest"] if choice.leading else [f"{output}.rest", inner]
            concat = helper.make_node("Concat", halves, [output], name=f"{output}.concat", axis=-1)
            nodes[output] = [_matmul(up, inner, f"{output}.rest"), concat]
        else:
            nodes[output] = []
            continue
        added[constant] = part.T
    return nodes


def _rewrite_input(chain: Chain, choice: _Choice, added: Arrays) -> dict[str, list[onnx.NodeProto]]:
    """``h = x₁ + B x₂`` for the halves of x; every up becomes a product of the whole."""
    x, inner = chain.down.input[0], chain.down.output[0]
    constant, rest = f"{chain.down.input[1]}.pivoted", choice.pivoted.rest
    nodes: dict[str, list[onnx.NodeProto]] = {inner: []}
    if rest.size:
        kept, mixed = f"{inner}.kept", f"{inner}.mixed"
        sizes = [chain.rank, len(rest)] if choice.leading else [len(rest), chain.rank]
        halves = [kept, mixed] if choice.leading else [mixed, kept]
        added[f"{constant}.sizes"] = np.array(sizes, np.int64)
        added[constant] = rest
        nodes[inner] = [
            helper.make_node("Split", [x, f"{constant}.sizes"], halves, name=f"{inner}.split", axis=-1),
            _matmul(chain.down, mixed, f"{inner}.product"),
            helper.make_node("Add", [kept, f"{inner}.product"], [inner], name=f"{inner}.add"),
        ]
    parts = np.split(choice.pivoted.down, np.cumsum(chain.outs)[:-1], axis=1)
    for up, part in zip(chain.ups, parts, strict=True):
        added[f"{up.input[1]}.pivoted"] = part
        reads = inner if rest.size else x
        nodes[up.output[0]] = [_matmul(up, reads, up.output[0])]
    return nodes


def _matmul(factor: onnx.NodeProto, value: str, output: str) -> onnx.NodeProto:
    """The product with what a factor became, under the same name."""
    constant = f"{factor.input[1]}.pivoted"
    return helper.make_node("MatMul", [value, constant], [output], name=factor.name or f"{output}.matmul")


def _replace(graph: onnx.GraphProto, nodes: Mapping[str, list[onnx.NodeProto]], added: Arrays) -> None:
    """Put nodes in the place of those with the named outputs; drop the constants that nothing reads now."""
    kept = [new for node in graph.node for new in nodes.get(node.output[0], [node])]
    del graph.node[:]
    graph.node.extend(kept)
    read = {name for node in graph.node for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    for name, array in added.items():
        typed = array if array.dtype == np.int64 else np.ascontiguousarray(array, np.float32)
        graph.initializer.append(numpy_helper.from_array(typed, name))
