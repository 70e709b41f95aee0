"""Reductions of a torch module, tried out: what each changes, and whether attention heads can shrink."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from edgelr.lowrank.reduce import query_key, reduce_sites, restore, value_output
from edgelr.lowrank.statistics import Statistics
from edgelr.lowrank.svd import Matrix
from edgelr.recipe.schema import Factors
from edgelr.structure import Group, Reduction
from edgelr.survey.groups import Found
from edgelr.survey.measure import Probe
from edgelr.survey.sensitivity import SMALLEST_CHANGE

# How far outputs may differ for heads to be a pair; those that are none change them far more. Two fp32 runs
# of the same model differ by less than 1e-6. Half precision rounds the new weights by up to 2^-9 of each.
SAME_OUTPUT = 1e-3
SAME_OUTPUT_HALF = 1e-2


@torch.inference_mode()
def measure_change(
    model: nn.Module,
    reduction: Reduction,
    statistics: Statistics,
    method: Factors,
    change: Callable[[], float],
) -> float:
    """Mean change of the output over some examples when only one reduction is carried out.

    Args:
        model: The dense model; as before on return.
        reduction: Of a site or of a group's heads.
        statistics: Of its sites.
        method: How factors are chosen.
        change: Runs the model on the examples; the mean change against the dense outputs.
    """
    before = reduce_sites(model, reduction, statistics, method, {})
    try:
        return max(change(), SMALLEST_CHANGE)
    finally:
        restore(model, before)


def measure_pair(probe: Probe, pair: Found, layers: Sequence[nn.Linear]) -> tuple[Group, Matrix] | None:
    """Attention heads with fewer channels, and their spectrum.

    Args:
        probe: The model.
        pair: Of form ``query-key`` or ``value-output``.
        layers: The two, dense.

    Returns:
        None when the attention does something else between the two layers.
    """
    whole = Reduction(form=pair.form, sites=pair.sites, rank=pair.head_size, heads=pair.heads)
    half = any(torch.finfo(layer.weight.dtype).bits < 32 for layer in layers)
    if probe.measure(whole) > (SAME_OUTPUT_HALF if half else SAME_OUTPUT):
        return None
    narrow = query_key if pair.form == "query-key" else value_output
    spectrum = narrow(layers, whole, probe.statistics).energies
    group = Group(
        form=pair.form,
        sites=pair.sites,
        heads=pair.heads,
        head_size=pair.head_size,
        energy=float(spectrum.sum()),
        sensitivity=probe.sensitivity(whole, spectrum, pair.head_size),
    )
    return group, spectrum
