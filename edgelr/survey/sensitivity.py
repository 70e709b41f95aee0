"""How much the task's output depends on a site: factor that one site, measure what changes.

Relative energy alone is no better a guide to ranks than giving every layer the same share. Measured
sensitivities are: the change of the output per unit of dropped energy, which the allocator then trades.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from edgelr.lowrank.layers import low_rank_linear, replace_module
from edgelr.lowrank.svd import Factors

_SMALLEST_CHANGE = 1e-9  # a site that changes nothing measurable still has some worth


@torch.inference_mode()
def measure_change(
    model: nn.Module,
    name: str,
    factors: Factors,
    batches: Sequence[Mapping[str, Tensor]],
    references: Sequence[Tensor],
    change: Callable[[Mapping[str, Tensor], Tensor], Tensor],
) -> float:
    """Mean change of the output over the examples when only site ``name`` is factored.

    Args:
        model: The dense model; as before on return.
        name: The site.
        factors: What to put there.
        batches: What to measure on.
        references: The dense outputs of each batch.
        change: (batch, reference) -> change of each example, ``[batch]``, by running the model.
    """
    dense = model.get_submodule(name)
    assert isinstance(dense, nn.Linear)
    replace_module(model, name, low_rank_linear(dense, factors))
    try:
        changes = [change(batch, reference) for batch, reference in zip(batches, references, strict=True)]
    finally:
        replace_module(model, name, dense)
    return max(float(torch.cat(changes).double().mean()), _SMALLEST_CHANGE)
