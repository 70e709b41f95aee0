"""Carry out a plan in an ONNX graph: two nodes in the place of one, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgelr.artifact_files import read_factored, write_json
from edgelr.artifacts import Factored, Survey
from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.factoring import factors_of, joint_factors
from edgelr.lowrank.graph_file import MODEL, read_graph, write_graph
from edgelr.lowrank.graph_layers import GraphLayer, attribute, dtype_of, find_layers, weight_of
from edgelr.lowrank.statistics import Statistics, open_statistics
from edgelr.lowrank.svd import Factors, Matrix
from edgelr.progress import Progress
from edgelr.recipe.schema import Factors as Method
from edgelr.runtime.subgraphs import drop_unread
from edgelr.structure import Reduction


def compress_graph(
    model: Path, survey: Survey, reductions: Sequence[Reduction], folder: Path, progress: Progress
) -> Factored:
    """Write a graph with reductions carried out.

    Args:
        model: The ONNX file that was surveyed.
        survey: Its statistics and sensitivities; factors are chosen as it did.
        reductions: What to do; no two of them name the same site.
        folder: Where ``model.onnx`` and ``structure.json`` are written.
        progress: Where to show how far it is.

    Raises:
        UnsupportedModelError: A site is no layer of this graph.
    """
    proto = read_graph(model)
    writer = _Writer(proto)
    emphasis = {site.name: site.sensitivity.slope or 1.0 for site in survey.sites}
    method: Method = "plain" if survey.factors == "plain" else "whitened"
    with open_statistics(survey) as statistics, progress.bar("factoring", len(reductions)) as advance:
        for reduction in reductions:
            _reduce(writer, reduction, statistics, method, emphasis)
            advance(note=reduction.sites[0])
    writer.finish()
    write_graph(proto, folder / MODEL)
    rows = [asdict(reduction) for reduction in reductions]
    write_json(folder / "structure.json", {"reductions": rows, "method": method, "metrics": {}})
    return read_factored(folder)


def _reduce(
    writer: _Writer,
    reduction: Reduction,
    statistics: Statistics,
    method: Method,
    emphasis: Mapping[str, float],
) -> None:
    layers = [writer.layers_of(name) for name in reduction.sites]
    weights = [weight_of(each[0], writer.tensor(each[0])) for each in layers]
    match reduction.form:
        case "low-rank" | "spatial":
            writer.factor(layers[0], factors_of(weights[0], reduction, statistics, method), reduction)
        case "joint":
            factors = joint_factors(weights, reduction, statistics, method, emphasis)
            writer.share([each[0] for each in layers], factors)
        case "query-key" | "value-output":
            raise UnsupportedModelError(f"{reduction.form} is for torch modules, not for a graph")
        case _:
            assert_never(reduction.form)


class _Writer:
    """A graph whose layers are being replaced; what is new takes its place when all is done."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._graph = proto.graph
        found = find_layers(proto).layers.values()
        self._sites = {layers[0].name: layers for layers in found}
        self._tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._nodes = {node.name: node for node in proto.graph.node}
        self._new: dict[str, list[onnx.NodeProto]] = {}
        self._taken = {*self._tensors, *(name for node in proto.graph.node for name in node.output)}

    def layers_of(self, site: str) -> tuple[GraphLayer, ...]:
        """The layers of a site.

        Raises:
            UnsupportedModelError: The graph has none of that name.
        """
        if site not in self._sites:
            raise UnsupportedModelError(f"the graph has no layer '{site}'", "survey and plan it again")
        return self._sites[site]

    def tensor(self, layer: GraphLayer) -> onnx.TensorProto:
        """The constant of a layer."""
        return self._tensors[layer.constant]

    def factor(self, layers: Sequence[GraphLayer], factors: Factors, reduction: Reduction) -> None:
        """Put two factors in the place of every layer of a site."""
        first = layers[0]
        if first.kind == "conv":
            self._factor_conv(first, factors, spatial=reduction.form == "spatial")
            return
        like = self.tensor(first)
        down = self._constant(f"{first.name}.down.weight", factors.down.T, like)
        up = self._constant(f"{first.name}.up.weight", factors.up.T, like)
        for layer in layers:
            hidden = self._value(f"{layer.name}.down")
            operator = "Gather" if layer.kind == "embedding" else "MatMul"
            reads = [down, layer.input] if layer.kind == "embedding" else [layer.input, down]
            made = helper.make_node(operator, reads, [hidden], name=f"{layer.name}.down")
            self._new[layer.name] = [made, *self._up(layer, hidden, up)]

    def share(self, layers: Sequence[GraphLayer], factors: Factors) -> None:
        """Put one ``down`` and an ``up`` each in the place of layers, in their order, that read one value."""
        first = layers[0]
        down = self._constant(f"{first.name}.down.weight", factors.down.T, self.tensor(first))
        hidden = self._value(f"{first.name}.down")
        shared = helper.make_node("MatMul", [first.input, down], [hidden], name=f"{first.name}.down")
        start = 0
        for layer in layers:
            tensor = self.tensor(layer)
            end = start + tensor.dims[0 if layer.kind == "linear" else 1]
            up = self._constant(f"{layer.name}.up.weight", factors.up[start:end].T, tensor)
            self._new[layer.name] = self._up(layer, hidden, up)
            start = end
        self._new[first.name] = [shared, *self._new[first.name]]

    def finish(self) -> None:
        """Replace the nodes, and drop the constants that nothing reads any more."""
        nodes = [new for node in self._graph.node for new in self._new.get(node.name, [node])]
        kept = [_copy(node) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(kept)
        drop_unread(self._graph)

    def _up(self, layer: GraphLayer, hidden: str, up: str) -> list[onnx.NodeProto]:
        """What multiplies by ``up``, with the bias and the scales that a Gemm has."""
        node, name = self._nodes[layer.name], f"{layer.name}.up"
        if node.op_type != "Gemm":
            return [helper.make_node("MatMul", [hidden, up], [layer.output], name=name)]
        scales = {key: attribute(node, key, 1.0) for key in ("alpha", "beta")}
        if set(scales.values()) != {1.0}:
            bias = [layer.bias] if layer.bias else []
            return [helper.make_node("Gemm", [hidden, up, *bias], [layer.output], name=name, **scales)]
        if not layer.bias:
            return [helper.make_node("MatMul", [hidden, up], [layer.output], name=name)]
        product = self._value(f"{layer.name}.up")
        return [
            helper.make_node("MatMul", [hidden, up], [product], name=name),
            helper.make_node("Add", [product, layer.bias], [layer.output], name=f"{layer.name}.bias"),
        ]

    def _factor_conv(self, layer: GraphLayer, factors: Factors, *, spatial: bool) -> None:
        node, like = self._nodes[layer.name], self.tensor(layer)
        out, in_, *kernel = like.dims
        rank = len(factors.down)
        settings = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        if spatial:
            height, width = kernel
            down_shape, up_shape = (rank, in_, height, 1), (out, rank, 1, width)
            ups = factors.up.reshape(out, width, rank).transpose(0, 2, 1)
            first, second = _along(settings, kernel, 0), _along(settings, kernel, 1)
        else:
            ones = [1] * len(kernel)
            down_shape, up_shape, ups = (rank, in_, *kernel), (out, rank, *ones), factors.up
            first, second = settings, {"kernel_shape": ones}
        down = self._constant(f"{layer.name}.down.weight", factors.down.reshape(down_shape), like)
        up = self._constant(f"{layer.name}.up.weight", ups.reshape(up_shape), like)
        hidden = self._value(f"{layer.name}.down")
        bias = [layer.bias] if layer.bias else []
        self._new[layer.name] = [
            helper.make_node("Conv", [layer.input, down], [hidden], name=f"{layer.name}.down", **first),
            helper.make_node("Conv", [hidden, up, *bias], [layer.output], name=f"{layer.name}.up", **second),
        ]

    def _constant(self, name: str, array: Matrix, like: onnx.TensorProto) -> str:
        own = self._value(name)
        made = numpy_helper.from_array(np.ascontiguousarray(array, dtype_of(like)), own)
        self._graph.initializer.append(made)
        return own

    def _value(self, name: str) -> str:
        """A name that no value of the graph has yet."""
        own, count = name, 1
        while own in self._taken:
            own, count = f"{name}:{count}", count + 1
        self._taken.add(own)
        return own


def _along(settings: Mapping[str, Any], kernel: Sequence[int], axis: int) -> dict[str, Any]:
    """A convolution's settings along one of its two axes; along the other, there is nothing to do."""
    kept = {"kernel_shape": [size if place == axis else 1 for place, size in enumerate(kernel)]}
    for name in ("strides", "dilations"):
        if name in settings:
            kept[name] = [size if place == axis else 1 for place, size in enumerate(settings[name])]
    if "pads" in settings:
        kept["pads"] = [size if place % 2 == axis else 0 for place, size in enumerate(settings["pads"])]
    return kept | {name: value for name, value in settings.items() if name == "auto_pad"}


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    """Its own: removing the nodes of a graph empties those that are still referred to."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    return made
