"""What each layer loses by its scheme: at its own output, and at the outputs of the graph.

One session does for all layers. In it, a number is added to what each layer gives: 0 but for the layer that
is looked at, whose own error is added, what it gives when it alone is quantized less what it gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.progress import Progress
from edgelr.quantize.bounds import affordable
from edgelr.quantize.choice import Choices
from edgelr.quantize.graphs import Prepared
from edgelr.quantize.layers import Layer
from edgelr.quantize.static import Feeds
from edgelr.runtime.probe import open_probe, run_values, session_of, value_types

EXACT_DB = 150.0  # said of a layer that loses nothing, or next to nothing: decibels have no end

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """What one layer loses on calibration data.

    Attributes:
        layer: Its name.
        alone_db: Signal to quantization noise at its output, fed with what fp32 gives it.
        accumulated_db: The same in the quantized graph, where all before it is quantized too.
        output_change: Mean cosine distance of the graph's outputs to fp32 when this layer alone is quantized;
            None of those that lose least of a graph so large that not all were measured.
    """

    layer: str
    alone_db: float
    accumulated_db: float
    output_change: float | None


def list_errors(
    graph: Prepared,
    quantized: Path,
    choices: Choices,
    feeds: Sequence[Feeds],
    progress: Progress,
) -> tuple[LayerError, ...]:
    """Measure every layer that is not fp32, and whose output the quantized graph still has.

    Args:
        graph: In fp32.
        quantized: The same graph, quantized.
        choices: What each layer became in it.
        feeds: Calibration data. A few calls are taken, evenly over it, and held in memory with what flows
            into every layer; where one is too much, only the worst layers are looked at on the outputs.
        progress: Where to show how far it is.

    Returns:
        In the order of the layers.
    """
    import onnx

    proto, types = onnx.load(quantized), value_types(quantized)
    layers = [
        layer for layer in graph.layers if choices[layer.name].scheme != "fp32" and layer.value in types
    ]
    if not layers or not feeds:
        return ()
    probe = _Injected(graph, layers)
    first = probe.run(feeds[0])
    few, changed = _few(graph, layers, first, feeds, progress)
    session = open_probe(quantized, [layer.value for layer in layers])
    exact = [first, *(probe.run(given) for given in few[1:])]
    found = [run_values(session, [layer.value for layer in layers], given) for given in few]
    wanted = {layer: [values[layer.value] for values in exact] for layer in layers}
    together = {layer: [values[layer.value] for values in found] for layer in layers}
    alone = {
        # What is looked up depends on nothing that is quantized before.
        layer: _alone(proto, types, layer, [values[layer.input] for values in exact])
        if layer.kind == "product"
        else together[layer]
        for layer in layers
    }
    alone_db = {layer: noise_db(wanted[layer], alone[layer]) for layer in layers}
    changes = {}
    with progress.bar("what each layer loses", changed) as advance:
        for layer in sorted(layers, key=lambda layer: alone_db[layer])[:changed]:
            changes[layer] = _change(layer, probe, few, exact, alone[layer])
            advance()
    return tuple(
        LayerError(
            layer=layer.name,
            alone_db=alone_db[layer],
            accumulated_db=noise_db(wanted[layer], together[layer]),
            output_change=changes.get(layer),
        )
        for layer in layers
    )


def _few(
    graph: Prepared,
    layers: Sequence[Layer],
    first: Mapping[str, Array],
    feeds: Sequence[Feeds],
    progress: Progress,
) -> tuple[list[Feeds], int]:
    """Calls to measure on, the first one of them, and how many layers to look at on the outputs."""
    calls, changed = affordable(layers, first, len(feeds))
    if changed < len(layers):
        progress.note(
            f"{graph.name} is large: what a layer changes of the output is measured on {calls} of "
            f"{len(feeds)} calls, for the worst {changed} of {len(layers)} layers"
        )
    return [feeds[number * len(feeds) // calls] for number in range(calls)], changed


def _change(
    layer: Layer,
    probe: _Injected,
    feeds: Sequence[Feeds],
    exact: Sequence[Mapping[str, Array]],
    alone: Sequence[Array],
) -> float:
    """Of the outputs, when a layer alone is quantized."""
    changes = []
    for given, values, got in zip(feeds, exact, alone, strict=True):
        changed = probe.run(given, layer, got.astype(np.float32) - values[layer.value])
        changes.append(np.mean([cosine_distance(values[name], changed[name]) for name in probe.outputs]))
    return float(np.mean(changes))


def noise_db(exact: Sequence[Array], found: Sequence[Array]) -> float:
    """Signal to noise: ten times the logarithm of the energy of what is exact over that of the difference.

    Args:
        exact: Arrays of any shapes.
        found: As many of the same shapes.

    Returns:
        Decibels, at most ``EXACT_DB``; minus that, where something is not finite.
    """
    signal = sum(float(np.square(each, dtype=np.float64).sum()) for each in exact)
    noise = sum(
        float(np.square(got.astype(np.float64) - each).sum()) for each, got in zip(exact, found, strict=True)
    )
    if not np.isfinite(noise):
        return -EXACT_DB
    if noise == 0.0 or signal == 0.0:
        return EXACT_DB if noise == 0.0 else -EXACT_DB
    return float(np.clip(10 * np.log10(signal / noise), -EXACT_DB, EXACT_DB))


def cosine_distance(one: Array, other: Array) -> float:
    """1 less the cosine of two arrays as vectors; 1 where one of them is not finite."""
    left, right = (each.astype(np.float64).ravel() for each in (one, other))
    if not np.isfinite(right).all():
        return 1.0
    lengths = float(np.linalg.norm(left) * np.linalg.norm(right))
    if not lengths:
        return float(not np.array_equal(left, right))
    return max(0.0, 1.0 - float(left @ right) / lengths)


class _Injected:
    """A graph in which an error can be added to what one of its layers gives.

    Args:
        graph: In fp32.
        layers: Where errors can be added.

    Attributes:
        outputs: Names of the outputs that are numbers with a point.
    """

    def __init__(self, graph: Prepared, layers: Sequence[Layer]) -> None:
        import onnx
        from onnx import TensorProto, ValueInfoProto, helper

        proto = onnx.load(graph.path, load_external_data=False)
        self._exact = {layer.value: f"{layer.value}.exact" for layer in layers}
        self._back = {exact: value for value, exact in self._exact.items()}
        outputs = [
            each for each in proto.graph.output if each.type.tensor_type.elem_type == TensorProto.FLOAT
        ]
        self.outputs: list[str] = [each.name for each in outputs]
        nodes = []
        for node in proto.graph.node:
            nodes.append(node)
            value = node.output[0] if node.output else ""
            if value in self._exact:
                node.output[0] = self._exact[value]
                names = [self._exact[value], f"{value}.error"]
                nodes.append(helper.make_node("Add", names, [value], name=f"{value}.inject"))
                proto.graph.input.append(helper.make_tensor_value_info(names[1], TensorProto.FLOAT, None))
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del proto.graph.node[:]
        proto.graph.node.extend(copies)
        del proto.graph.value_info[:]
        inside = {name for node in copies for name in node.output} - set(self.outputs)
        read = {layer.input for layer in layers if layer.kind == "product"} & inside
        self._read = sorted(read | set(self._exact.values()))
        self._given = {layer.input for layer in layers} - read
        proto.graph.output.extend(ValueInfoProto(name=name) for name in self._read)
        self._session = session_of(proto, graph.path.parent)

    def run(self, feeds: Feeds, layer: Layer | None = None, error: Array | None = None) -> dict[str, Array]:
        """Run it with the error of one layer, or none.

        Args:
            feeds: One call.
            layer: Where the error is.
            error: As large as what the layer gives.

        Returns:
            Outputs and, without an error, what every layer is given and gives.
        """
        nothing = np.zeros((), np.float32)
        errors = {f"{value}.error": nothing for value in self._exact}
        if layer is None or error is None:
            wanted = [*self.outputs, *self._read]
        else:
            errors[f"{layer.value}.error"] = error
            wanted = self.outputs
        found = dict(zip(wanted, self._session.run(wanted, {**feeds, **errors}), strict=True))
        named: dict[str, Array] = {name: feeds[name] for name in self._given if name in feeds}
        for name, array in found.items():
            named[self._back.get(name, name)] = array
        return named


def _alone(quantized: Any, types: Mapping[str, Any], layer: Layer, inputs: Sequence[Array]) -> list[Array]:  # noqa: ANN401
    """What a product gives in a graph of its own, cut out of the quantized one.

    Args:
        quantized: An ``onnx.ModelProto`` with its weights inside.
        types: Of its values.
        layer: The product.
        inputs: What it reads, a call an entry.
    """
    from onnx import helper

    graph = quantized.graph
    makers = {name: node for node in graph.node for name in node.output}
    made_by, wanted = set(), [layer.value]
    while wanted:  # backwards, as far as what it reads
        name = wanted.pop()
        if name != layer.input and name in makers and makers[name].output[0] not in made_by:
            made_by.add(makers[name].output[0])
            wanted += [each for each in makers[name].input if each]
    nodes = [node for node in graph.node if node.output and node.output[0] in made_by]
    read = {name for node in nodes for name in node.input}
    kinds = {value.name: value for value in (*types.values(), *graph.input, *graph.output)}
    dtypes = [kinds[name].type.tensor_type.elem_type for name in (layer.input, layer.value)]
    made = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info(layer.input, dtypes[0], None)],
        [helper.make_tensor_value_info(layer.value, dtypes[1], None)],
        [tensor for tensor in graph.initializer if tensor.name in read],
    )
    session = session_of(
        helper.make_model(made, opset_imports=quantized.opset_import, ir_version=quantized.ir_version), Path()
    )
    dtype = helper.tensor_dtype_to_np_dtype(dtypes[0])
    return [session.run([layer.value], {layer.input: each.astype(dtype)})[0] for each in inputs]
