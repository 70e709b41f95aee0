"""What may be measured of a large model: as much as takes minutes, not hours.

Counted in multiply-accumulates and bytes, not by a clock: a build finds the same each time, on any host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from edgelr.examples import spread
from edgelr.progress import Progress
from edgelr.quantize.calibration import Data
from edgelr.quantize.layers import Layer

LISTED = 8  # calls of each graph that an error list is measured on, evenly over the calibration data
RUNS = 800  # of a graph, all layers together: fewer calls where there are hundreds of layers
MOST_MACS = 1e13  # of all runs behind an error list: some minutes on one core
MOST_BYTES = 2**30  # of what flows, held in memory at once
_MOST_SCORED = 2e12  # of one measurement of a metric, of which accuracy control makes up to 25
_ROWS = 128  # of an example, about: a query and a passage, a text and what is written of it
_LEAST_SCORED = 32  # examples: fewer tell nothing


def affordable(layers: Sequence[Layer], values: Mapping[str, NDArray[Any]], calls: int) -> tuple[int, int]:
    """How much of an error list to measure.

    Args:
        layers: Of one graph.
        values: What they read and give in one call.
        calls: That there are.

    Returns:
        How many calls to measure on, and for how many layers, a run each, what they change of the output.
    """
    products = [layer for layer in layers if layer.kind == "product"]
    macs = max(1, sum(_rows(values[layer.input]) * layer.numbers for layer in products))
    read = {layer.input: values[layer.input].nbytes for layer in products}
    # What a layer gives is there three times: in fp32, with it alone quantized, with all of them.
    held = max(1, sum(read.values()) + 3 * sum(values[layer.value].nbytes for layer in layers))
    usual = min(calls, LISTED, max(2, RUNS // len(layers)))
    few = max(1, min(usual, int(MOST_MACS / (macs * len(layers))), MOST_BYTES // held))
    return few, max(1, min(len(layers), int(MOST_MACS / (macs * few))))


def affordable_examples(data: Data, layers: Sequence[Layer], progress: Progress) -> Data:
    """Data with fewer validation examples, where a metric is to be measured many times on all of them.

    Args:
        data: What there is.
        layers: Of all graphs.
        progress: Told of what is left out.
    """
    scored = [each for each in data.validation if each.scored]
    numbers = sum({layer.matrix: layer.numbers for layer in layers if layer.kind == "product"}.values())
    most = max(_LEAST_SCORED, int(_MOST_SCORED / (max(1, numbers) * _ROWS)))
    if len(scored) <= most:
        return data
    progress.note(
        f"accuracy control measures on {most} of {len(scored)} validation examples: the model is large"
    )
    return replace(data, validation=spread(scored, most))


def _rows(value: NDArray[Any]) -> int:
    return int(value.size) // max(1, int(value.shape[-1]))
