"""The best items inside a recommender's graph: what was seen is left out, and ``TopK`` ranks the rest.

A catalog of millions then stays where it was scored: ids go in, ``top_items`` and ``top_scores`` come out.
``scores`` stays an output. It is what packages are compared by, and what is not asked for is not copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgelr.device.load import load_devices
from edgelr.device.session import open_session
from edgelr.errors import ExportError
from edgelr.export.parity import Case
from edgelr.lowrank.graph_file import write_graph
from edgelr.metrics.recommendation import top_items
from edgelr.runtime.graph import run_graph
from edgelr.runtime.recommend import SCORES, TOP_ITEMS, TOP_SCORES

_PREFIX = "top/"


def rank_inside(proto: onnx.ModelProto, path: Path, top: int, cases: Sequence[Case]) -> list[Case]:
    """Add the ranking to a graph, write it, and make sure that it is the one that numpy makes of its scores.

    Args:
        proto: A graph with the output ``scores``; changed in place.
        path: Where it is written.
        top: How many items, at most.
        cases: Its parity cases.

    Returns:
        The cases, each with the items to leave out.

    Raises:
        ExportError: The graph ranks in another way.
    """
    add_top(proto, top)
    write_graph(proto, path)
    session = open_session(path, load_devices()["cpu-1t"])
    told = [{"seen": _some_seen(len(case["user"])), **case} for case in cases]
    for case in told:
        found = run_graph(session, case)
        for row, seen in enumerate(case["seen"]):
            scores = found[SCORES][row]
            listed = case.get("item", np.arange(len(scores)))
            hidden = np.flatnonzero(np.isin(listed, seen)).tolist()
            expected = listed[top_items(scores, hidden, top)]
            if found[TOP_ITEMS][row][np.isfinite(found[TOP_SCORES][row])].tolist() != expected.tolist():
                raise ExportError(
                    f"{path.name}: its best {top} items are not those of its scores",
                    "please report the model; without export.top it is exported as it was",
                )
    return told


def _some_seen(users: int) -> Any:  # noqa: ANN401 - an array
    """The first two items, and an empty place behind them, for each user."""
    return np.tile(np.array([0, 1, -1], np.int64), (users, 1))


def add_top(proto: onnx.ModelProto, top: int) -> None:
    """Add the inputs and outputs of a ranking in place.

    ``seen [batch, met]`` are rows of items that are left out, -1 where there is none. Of equal scores the
    first item is better. Where fewer items are left than asked for, the last ``top_scores`` are minus
    infinity and their items mean nothing.

    Args:
        proto: A graph from ``user``, ``seen`` or ``item`` (candidates) to ``scores [batch, items]``.
        top: How many items, at most.
    """
    graph = proto.graph
    inputs = [value.name for value in graph.input]
    if "seen" not in inputs:
        graph.input.append(helper.make_tensor_value_info("seen", TensorProto.INT64, ["batch", "met"]))
    make = _Builder(graph)
    if "item" in inputs:
        left = _hide_candidates(make)
        places = make.add("TopK", [left, _fewer(make, top)], ["scores", "places"], axis=-1)
        make.last("Gather", ["item", places[1]], TOP_ITEMS, axis=0)
        make.last("Identity", [places[0]], TOP_SCORES)
        wide: int | str = "top"
    else:
        wide = min(top, graph.output[0].type.tensor_type.shape.dim[1].dim_value)
        left = _hide_rows(make)
        graph.node.append(
            helper.make_node(
                "TopK", [left, make.constant("k", [wide])], [TOP_SCORES, TOP_ITEMS], name=f"{_PREFIX}top"
            )
        )
    for name, kind in ((TOP_SCORES, TensorProto.FLOAT), (TOP_ITEMS, TensorProto.INT64)):
        graph.output.append(helper.make_tensor_value_info(name, kind, ["batch", wide]))


def _hide_rows(make: _Builder) -> str:
    """Scores with minus infinity where an item was seen: one of a few numbers each, however many items.

    An empty place is the minimum of the first score and infinity, which is that score.
    """
    rows = make.add("Max", ["seen", make.constant("none", [0])], ["rows"])
    empty = make.add("Less", ["seen", make.constant("none", [0])], ["empty"])
    numbers = [make.constant(name, np.float32(value)) for name, value in (("high", np.inf), ("low", -np.inf))]
    lowest = make.add("Where", [*empty, *numbers], ["lowest"])
    return make.add("ScatterElements", [SCORES, *rows, *lowest], ["left"], axis=1, reduction="min")[0]


def _hide_candidates(make: _Builder) -> str:
    """Likewise, where an item is not the row of its number: each candidate is compared with what was seen."""
    candidates = make.add("Reshape", ["item", make.constant("column", [1, -1, 1])], ["candidates"])
    seen = make.add("Unsqueeze", ["seen", make.constant("middle", [1])], ["seen"])
    equal = make.add("Equal", [*candidates, *seen], ["equal"])
    numbers = make.add("Cast", equal, ["equal.number"], to=TensorProto.FLOAT)
    met = make.add("ReduceMax", [*numbers, make.constant("last", [2])], ["met"], keepdims=0)
    hidden = make.add("Cast", met, ["hidden"], to=TensorProto.BOOL)
    low = make.constant("low", np.float32(-np.inf))
    return make.add("Where", [*hidden, low, SCORES], ["left"])[0]


def _fewer(make: _Builder, top: int) -> str:
    """As many as asked for, or as there are."""
    size = make.add("Shape", ["item"], ["size"])
    return make.add("Min", [*size, make.constant("k", [top])], ["k.least"])[0]


class _Builder:
    """Names of what is added to a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph

    def constant(self, what: str, values: Any) -> str:  # noqa: ANN401 - whatever numpy takes
        name = f"{_PREFIX}{what}.constant"
        if all(tensor.name != name for tensor in self.graph.initializer):
            array = np.asarray(values)
            self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **more: Any) -> list[str]:  # noqa: ANN401
        named = [f"{_PREFIX}{name}" for name in outputs]
        self.graph.node.append(helper.make_node(operator, inputs, named, name=named[0], **more))
        return named

    def last(self, operator: str, inputs: Sequence[str], output: str, **more: Any) -> None:  # noqa: ANN401
        self.graph.node.append(helper.make_node(operator, inputs, [output], name=_PREFIX + output, **more))
