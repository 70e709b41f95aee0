"""Channels between two layers that may be put in another order, found by trying.

The hidden units of a feed-forward block have no order of their own: rows of the first layer and columns of
the second can be reordered together. An export that pivots factors needs that (see ``export/pivot.py``), and
a plan counts on it. Which layers they are depends on what the model computes in between, so it is tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn


@torch.inference_mode()
def reorderable(
    model: nn.Module,
    sites: Mapping[str, nn.Module],
    order: Sequence[str],
    change: Callable[[], float],
    unchanged: float,
) -> set[str]:
    """Names of linears whose outputs, or inputs, are channels that may be reordered.

    Args:
        model: The dense model; as before on return.
        sites: Its sites that ran.
        order: Their names, in the order they run.
        change: Runs the model on some examples; the mean change of its output.
        unchanged: What rounding alone may change.
    """
    found: set[str] = set()
    for first, second in itertools.pairwise(order):
        writer, reader = sites.get(first), sites.get(second)
        if type(writer) is not nn.Linear or type(reader) is not nn.Linear:
            continue
        if writer.out_features != reader.in_features or writer.weight is reader.weight:
            continue
        if _survives(writer, reader, change) <= unchanged:
            found |= {first, second}
    return found


def _survives(writer: nn.Linear, reader: nn.Linear, change: Callable[[], float]) -> float:
    """Change of the output when the channels between two layers come in reverse order."""
    before = list(_channels(writer, reader))
    try:
        for layer, name, axis, tensor in before:
            # Not in place: a weight may be one that stays in its file.
            setattr(layer, name, nn.Parameter(tensor.detach().flip(axis), requires_grad=False))
        return change()
    finally:
        for layer, name, _, tensor in before:
            setattr(layer, name, tensor)


def _channels(writer: nn.Linear, reader: nn.Linear) -> Iterator[tuple[nn.Linear, str, int, Tensor]]:
    """Everything that has an entry for each channel: the layer, the name, on which axis, and what it is."""
    yield writer, "weight", 0, writer.weight
    yield reader, "weight", 1, reader.weight
    if writer.bias is not None:
        yield writer, "bias", 0, writer.bias
