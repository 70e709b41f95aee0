"""Statistics of the layers of an ONNX graph: it is run with their inputs as extra outputs, and these summed.

One call is in memory at a time. Gram matrices that would not fit together are gathered in several passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import numpy_helper

from edgelr.errors import DataError
from edgelr.lowrank.conv_cost import has_two_axes
from edgelr.lowrank.graph_file import open_graph
from edgelr.lowrank.graph_layers import GraphLayer, attribute
from edgelr.lowrank.statistics import Statistics, statistics_file
from edgelr.lowrank.svd import Matrix
from edgelr.progress import Progress
from edgelr.runtime.graph import run_errors

Inputs = Mapping[str, NDArray[Any]]
Layers = Mapping[str, Sequence[GraphLayer]]
LIMIT_BYTES = 2**30  # that the sums of one pass may take; those of one input are always gathered together


@dataclass(frozen=True, kw_only=True)
class GraphSums:
    """What is known of the sites but the statistics themselves.

    Attributes:
        inputs: Site -> name of its input's statistics.
        rows: Site -> how many vectors it was multiplied with.
        calls: How many calls there were.
    """

    inputs: dict[str, str]
    rows: dict[str, int] = field(default_factory=dict)
    calls: int = 0


def input_names(sites: Layers) -> dict[str, str]:
    """Site -> the first site that reads the same value; of a weight that several layers have, itself."""
    owners: dict[str, str] = {}
    for name, layers in sites.items():
        alone = len(layers) == 1 and layers[0].kind in ("linear", "transposed-linear")
        owners[name] = next(
            (
                other
                for other, others in sites.items()
                if alone
                and len(others) == 1
                and others[0].kind in ("linear", "transposed-linear")
                and others[0].input == layers[0].input
            ),
            name,
        )
    return owners


def gather_graph(
    path: Path,
    proto: onnx.ModelProto,
    sites: Layers,
    calls: Sequence[Inputs],
    folder: Path,
    progress: Progress,
    limit: float = LIMIT_BYTES,
) -> GraphSums:
    """Run a graph over calls, and write the statistics of its sites.

    Args:
        path: The graph's file.
        proto: The same, in memory.
        sites: Their layers, by name of the site.
        calls: Calibration data.
        folder: Where ``statistics.npz`` is written.
        progress: Where to show how far it is.
        limit: Bytes that the sums may take; results do not depend on it.

    Raises:
        DataError: A value is not finite, or the graph fails on a call.
    """
    known = GraphSums(inputs=input_names(sites), calls=len(calls))
    shapes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    nodes = {node.name: node for node in proto.graph.node}
    groups = list(passes(sites, known.inputs, shapes, limit))
    label = "gathering statistics"
    with statistics_file(folder) as append, progress.bar(label, len(groups) * len(calls)) as advance:
        for names in groups:
            adder = _Adder(known, nodes, proto)
            chosen = {name: sites[name] for name in names}
            wanted = _values(chosen, shapes)
            session = open_graph(path, wanted)
            fed = {entry.name for entry in session.get_inputs()}
            asked = [name for name in wanted if name not in fed]
            for number, call in enumerate(calls):
                values = {**call, **_run(session, asked, call, number)}
                for name, layers in chosen.items():
                    for layer in layers:
                        adder.add(name, layer, values, shapes[layer.constant])
                advance()
            append(adder.statistics())
    return known


def passes(
    sites: Layers, inputs: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], limit: float
) -> Iterator[list[str]]:
    """Sites in groups whose sums fit the limit; those that read one input are together.

    Args:
        sites: Their layers.
        inputs: Site -> its input.
        shapes: Of the constants.
        limit: Bytes.
    """
    group: list[str] = []
    size = 0
    for owner in dict.fromkeys(inputs.values()):
        own = _bytes(sites[owner][0], shapes[sites[owner][0].constant])
        if group and size + own > limit:
            yield group
            group, size = [], 0
        group += [name for name, input_ in inputs.items() if input_ == owner]
        size += own
    yield group


def _bytes(layer: GraphLayer, shape: tuple[int, ...]) -> int:
    match layer.kind:
        case "embedding":
            return 8 * shape[0]
        case "conv":
            return 8 * (shape[0] ** 2 + (shape[1] * shape[2]) ** 2)
        case _:
            return 8 * max(shape) ** 2


def _values(sites: Layers, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """The values that the statistics of sites are made of."""
    wanted: list[str] = []
    for layer in (each for layers in sites.values() for each in layers):
        if layer.kind != "conv":
            wanted.append(layer.input)
            continue
        wanted.append(layer.output)
        if has_two_axes(shapes[layer.constant][2:]):
            wanted.append(layer.input)
    return tuple(dict.fromkeys(wanted))


def _run(session: Any, values: Sequence[str], call: Inputs, number: int) -> dict[str, NDArray[Any]]:  # noqa: ANN401
    from edgelr.runtime.probe import run_values

    try:
        return run_values(session, values, call)
    except run_errors() as error:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in call.items())
        raise DataError(
            f"the graph fails on calibration call {number} ({shapes}): {str(error).splitlines()[0]}",
            "give calls that the graph can run on",
        ) from error


class _Adder:
    """Adds up what the layers of one pass read and give."""

    def __init__(self, known: GraphSums, nodes: Mapping[str, onnx.NodeProto], proto: onnx.ModelProto) -> None:
        self._known, self._nodes = known, nodes
        self._biases = {
            tensor.name: numpy_helper.to_array(tensor).astype(np.float64)
            for tensor in proto.graph.initializer
            if len(tensor.dims) == 1
        }
        self._grams: dict[str, Matrix] = {}
        self._sums: dict[str, Matrix] = {}
        self._outputs: dict[str, Matrix] = {}
        self._columns: dict[str, Matrix] = {}
        self._counts: dict[str, Matrix] = {}

    def statistics(self) -> Statistics:
        """What later stages read."""
        return Statistics(
            inputs=self._known.inputs,
            grams=self._grams,
            sums=self._sums,
            curvatures={},
            outputs=self._outputs,
            columns=self._columns,
            counts=self._counts,
        )

    def add(self, name: str, layer: GraphLayer, values: Inputs, shape: tuple[int, ...]) -> None:
        """Add one call of one layer of a site, whose constant has a shape."""
        match layer.kind:
            case "embedding":
                ids = values[layer.input].reshape(-1).astype(np.int64)
                rows = len(ids)
                seen = np.bincount(np.where(ids < 0, ids + shape[0], ids), minlength=shape[0])
                _accumulate(self._counts, name, seen.astype(np.float64))
            case "conv":
                rows = self._add_conv(name, layer, values, shape)
            case _:
                rows = self._add_product(name, layer, values)
        self._known.rows[name] = self._known.rows.get(name, 0) + rows

    def _add_product(self, name: str, layer: GraphLayer, values: Inputs) -> int:
        array = values[layer.input]
        if self._known.inputs[name] == name:
            rows = _rows(array, f"the input of '{layer.name}'")
            _accumulate(self._grams, name, rows.T @ rows)
            _accumulate(self._sums, name, np.append(rows.sum(axis=0), len(rows)))
        return int(np.prod(array.shape[:-1]))

    def _add_conv(self, name: str, layer: GraphLayer, values: Inputs, shape: tuple[int, ...]) -> int:
        outputs = _rows(np.moveaxis(values[layer.output], 1, -1), f"the output of '{layer.name}'")
        if layer.bias:
            outputs = outputs - self._biases.get(layer.bias, 0.0)
        _accumulate(self._outputs, name, outputs.T @ outputs)
        if has_two_axes(shape[2:]):
            columns = column_gram(values[layer.input], shape[2:], self._nodes[layer.name])
            _accumulate(self._columns, name, columns)
        return len(outputs)


def _rows(array: NDArray[Any], what: str) -> Matrix:
    rows = array.reshape(-1, array.shape[-1]).astype(np.float64)
    if not np.isfinite(rows).all():
        raise DataError(
            f"{what} is not finite (NaN or infinity) on the calibration data",
            "look at the calibration inputs, and at the layers before this one",
        )
    return rows


def _accumulate(sums: dict[str, Matrix], name: str, values: Matrix) -> None:
    if name in sums:
        sums[name] += values
    else:
        sums[name] = values


def column_gram(images: NDArray[Any], kernel: Sequence[int], node: onnx.NodeProto) -> Matrix:
    """``Σ x xᵀ`` over the columns of patches that a convolution reads, ``[in·kh, in·kh]``.

    A column is read once for each place of the kernel along the width, and skipped by the stride.

    Args:
        images: ``[batch, in, height, width]``.
        kernel: ``(kh, kw)``.
        node: The convolution.
    """
    step, skip = attribute(node, "strides", [1, 1])
    gap = attribute(node, "dilations", [1, 1])[0]
    span = (kernel[0] - 1) * gap + 1
    above, below = _pads(node, images.shape[2], span, step)
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (above, below), (0, 0)))
    windows = sliding_window_view(padded, span, axis=2)[:, :, ::step, :, ::gap]
    columns = windows.transpose(1, 4, 0, 2, 3).reshape(images.shape[1] * kernel[0], -1)
    return np.asarray(columns @ columns.T / skip, np.float64)


def _pads(node: onnx.NodeProto, height: int, span: int, step: int) -> tuple[int, int]:
    """Rows of zeros above and below an image."""
    way = attribute(node, "auto_pad", b"NOTSET").decode()
    if way == "NOTSET":
        pads = attribute(node, "pads", [0, 0, 0, 0])
        return pads[0], pads[2]
    if way == "VALID":
        return 0, 0
    total = max((-(-height // step) - 1) * step + span - height, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if way == "SAME_UPPER" else (more, less)
