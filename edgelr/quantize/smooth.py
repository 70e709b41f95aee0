"""What int8 products read, with the few channels narrowed that are much wider than all others.

One scale serves a whole activation, and in transformers a few channels are ten times as wide as the rest: few
of the 256 levels are left for these. Each channel is divided by a number before the product, and its row of
the matrix multiplied by it: in fp32 nothing changes. Where a product makes the value, its matrix and bias are
divided, which costs nothing. Elsewhere the division costs a pass over the activation, so it is done where the
expected error of the product at least halves. Channels are only narrowed: one that calibration data never
wakes must not become wide when other data does.

Source:
    Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models
    (ICML 2023), equation 4. Its one exponent is chosen for each input here, by the expected error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.quantize.pairs import pair_scales
from edgelr.quantize.producers import Producers
from edgelr.quantize.static import Feeds
from edgelr.runtime.probe import open_probe, run_values
from edgelr.runtime.subgraphs import read_inside

_EXPONENTS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_MOST_ERROR = 0.5  # of what the product loses as it is, where a pass is added
_LEVELS = 255

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What flows into products, channel by channel.

    Attributes:
        high: The largest value, or 0, ``[calls, in]``.
        low: The least, or 0, likewise.
        energy: Mean square, ``[in]``.
    """

    high: Array
    low: Array
    energy: Array


class Smoothing:
    """What narrows the inputs of a graph's products, found once for each: accuracy control quantizes often.

    Args:
        source: The fp32 graph.
        feeds: Calibration data, at least one call.
    """

    def __init__(self, source: Path, feeds: Sequence[Feeds]) -> None:
        self._source, self._feeds = source, feeds
        self._seen: dict[str, Seen] = {}  # by input

    def smooth(self, source: Path, target: Path, nodes: Sequence[str]) -> int:
        """Write a graph that computes the same and whose products lose less in int8.

        Args:
            source: The fp32 graph, as it was when this was made but for other products.
            target: Where to write; weights are beside it.
            nodes: Names of the products that will be int8.

        Returns:
            How many inputs were narrowed.
        """
        import onnx

        proto = onnx.load(source)
        weights = {tensor.name: tensor for tensor in proto.graph.initializer}
        groups = _groups(proto.graph, set(nodes), set(weights))
        self._look(groups)
        made = {}
        # All of them are found before any matrix changes: one that is divided for the next may be multiplied
        # for its own input as well.
        chosen = self._choose(proto.graph, nodes, groups, weights)
        for name, (divisor, before) in chosen.items():
            for node in groups[name]:
                _multiply(weights[node.input[1]], divisor[:, None])
            for constant in before:
                _multiply(weights[constant], 1 / divisor)
            if not before:
                made[name] = _division(proto.graph, name, divisor)
                for node in groups[name]:
                    node.input[0] = made[name].output[0]
        _insert(proto.graph, made)
        onnx.save(proto, target, save_as_external_data=True, location=f"{target.name}.data")
        return len(chosen)

    def _choose(
        self,
        graph: Any,  # noqa: ANN401 - onnx is not typed
        nodes: Sequence[str],
        groups: Mapping[str, Sequence[Any]],
        weights: Mapping[str, Any],
    ) -> dict[str, tuple[Array, tuple[str, ...]]]:
        """By input, what its channels are divided by, and the constants to do that in; none for a pass."""
        from onnx import numpy_helper

        producers, chosen = Producers(graph, nodes), {}
        for name, products in groups.items():
            matrix = np.hstack([numpy_helper.to_array(weights[node.input[1]]) for node in products])
            before = producers.constants(name, len(products), len(matrix))
            found = divisors(self._seen[name], matrix, 1.0 if before else _MOST_ERROR)
            if found is not None:
                chosen[name] = found, before
        return chosen

    def _look(self, groups: Mapping[str, Sequence[Any]]) -> None:
        """Run the graph and note the channels of inputs that are not known yet."""
        new = [name for name in groups if name not in self._seen]
        given = set(self._feeds[0])
        inside = [name for name in new if name not in given]
        session = open_probe(self._source, inside)
        calls: dict[str, list[tuple[Array, Array, Array]]] = {name: [] for name in new}
        for feed in self._feeds if new else ():
            values = {**feed, **run_values(session, inside, feed)}
            for name in new:
                rows = np.asarray(values[name], np.float64)
                rows = rows.reshape(-1, rows.shape[-1])
                top, bottom = rows.max(axis=0, initial=0.0), rows.min(axis=0, initial=0.0)
                calls[name].append((top, bottom, np.square(rows).mean(axis=0)))
        for name, found in calls.items():
            high, low, energy = (np.stack(each) for each in zip(*found, strict=True))
            self._seen[name] = Seen(high=high, low=low, energy=energy.mean(axis=0))


def divisors(seen: Seen, weight: Array, most_error: float = _MOST_ERROR) -> Array | None:
    """Choose what to divide each channel by.

    Args:
        seen: What the products read.
        weight: Their matrices side by side, ``[in, out]``.
        most_error: Of the error that there is, what may be left for it to be worth it.

    Returns:
        Numbers of at least 1 ``[in]``; None where it is not worth it.
    """
    reach = np.maximum(seen.high.max(axis=0), -seen.low.min(axis=0))
    heights = np.abs(weight).max(axis=1)
    if not (reach.any() and heights.any()):
        return None
    reach, heights = (np.maximum(each, each.max() * 1e-6) for each in (reach, heights))
    tried = []
    for exponent in _EXPONENTS:
        shape = reach**exponent / heights ** (1 - exponent)
        tried.append(np.maximum(shape / np.median(shape), 1.0))
    errors = [expected_error(seen, weight, each) for each in tried]
    best = int(np.argmin(errors))
    worth = errors[best] < most_error * expected_error(seen, weight, np.ones(len(weight)))
    return tried[best] if worth else None


def expected_error(seen: Seen, weight: Array, divisor: Array) -> float:
    """Mean squared error of a product in int8, all outputs of a row of the input together.

    Rounding to a step is an error of a twelfth of its square, in activations and in weights.

    Args:
        seen: What it reads.
        weight: ``[in, out]``.
        divisor: Of each channel, ``[in]``.
    """
    wider = weight * divisor[:, None]
    steps = ((seen.high / divisor).max(axis=1) - (seen.low / divisor).min(axis=1)) / _LEVELS
    of_input = np.square(steps).mean() * np.square(wider).sum()
    of_weight = np.square(pair_scales(wider)).sum() * (seen.energy / divisor**2).sum()
    return float(of_input + of_weight) / 12


def _groups(graph: Any, nodes: set[str], weights: set[str]) -> dict[str, list[Any]]:  # noqa: ANN401
    """Input -> the products that read it, of matrices that nothing else reads."""
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    inside = read_inside(graph) | {value.name for value in graph.output}
    groups: dict[str, list[Any]] = {}
    for node in graph.node:
        if node.name in nodes and node.input[1] in weights - inside and readers[node.input[1]] == 1:
            groups.setdefault(node.input[0], []).append(node)
    return groups


def _multiply(tensor: Any, factors: Array) -> None:  # noqa: ANN401 - onnx is not typed
    """Multiply a constant in place."""
    from onnx import numpy_helper

    product = (numpy_helper.to_array(tensor) * factors).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(product, tensor.name))


def _division(graph: Any, name: str, divisor: Array) -> Any:  # noqa: ANN401 - onnx is not typed
    """The pass that divides a value; adds its constant to the graph."""
    from onnx import helper, numpy_helper

    factors = numpy_helper.from_array((1 / divisor).astype(np.float32), f"{name}.narrower")
    graph.initializer.append(factors)
    return helper.make_node("Mul", [name, factors.name], [f"{name}.narrow"], name=f"{name}.narrow")


def _insert(graph: Any, made: Mapping[str, Any]) -> None:  # noqa: ANN401 - onnx is not typed
    """Put each division before the first node that reads it."""
    wanted = {node.output[0]: node for node in made.values()}
    nodes = []
    for node in graph.node:
        nodes += [wanted.pop(name) for name in dict.fromkeys(node.input) if name in wanted]
        nodes.append(node)
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
