"""What a site or a group is worth: its spectrum, and what the output loses when only it is reduced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from edgelr.lowrank.conv import reason_against_conv
from edgelr.lowrank.factoring import Spectrum, conv_form, joint_spectrum, spectrum_of
from edgelr.lowrank.kinds import matrix_of
from edgelr.lowrank.reduce import query_key, value_output
from edgelr.lowrank.statistics import Statistics
from edgelr.lowrank.svd import Matrix
from edgelr.recipe.schema import Factors
from edgelr.structure import Group, Reduction, Sensitivity
from edgelr.survey.groups import Found as FoundGroup
from edgelr.survey.sensitivity import measure_change, probe_ranks, sensitivity

# How far outputs may differ for heads to be a pair; those that are none change them far more. Two fp32 runs
# of the same model differ by less than 1e-6. Half precision rounds the new weights by up to 2^-9 of each.
SAME_OUTPUT = 1e-3
SAME_OUTPUT_HALF = 1e-2


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How reductions are tried out.

    Attributes:
        model: Dense; as before after every trial.
        sites: Its layers that can be factored.
        statistics: Of these.
        method: How factors are chosen.
        points: Ranks that each is measured at.
        change: Runs the model on some examples; the mean change against the dense outputs. None when
            sensitivities are not measured.
    """

    model: nn.Module
    sites: Mapping[str, nn.Module]
    statistics: Statistics
    method: Factors
    points: int
    change: Callable[[], float] | None

    def measure(self, reduction: Reduction) -> float:
        """Mean change of the output under one reduction alone."""
        assert self.change is not None
        return measure_change(self.model, reduction, self.statistics, self.method, self.change)

    def sensitivity(self, reduction: Reduction, spectrum: Matrix, full: int) -> Sensitivity:
        """Changes at some ranks below ``full``; no point when nothing is measured.

        Args:
            reduction: What to do; its rank does not matter.
            spectrum: Of it.
            full: The rank from which the reduction is of no use.
        """
        if self.change is None:
            return Sensitivity(points=())
        ranks = [rank for rank in probe_ranks(max(1, full), self.points) if rank < len(spectrum)]
        dropped = [(float(spectrum[rank:].sum()), rank) for rank in ranks]
        made = [(energy, replace(reduction, rank=rank)) for energy, rank in dropped if energy > 0]
        return sensitivity([(energy, self.measure(reduction)) for energy, reduction in made])


def measure_site(probe: Probe, name: str, shared: Sequence[str]) -> tuple[Spectrum, Sensitivity]:
    """Spectrum and sensitivity of the factors of one site.

    Args:
        probe: The model.
        name: The site.
        shared: Other modules with the same weight.
    """
    site = probe.sites[name]
    reduction = Reduction(form="low-rank", sites=(name,), rank=1, shared=tuple(shared))
    found = spectrum_of(site, reduction, probe.statistics, probe.method)
    if found.basis is not None:
        probe = replace(probe, statistics=replace(probe.statistics, bases={name: found.basis}))
    return found, probe.sensitivity(reduction, found.energies, _break_even(site, reduction))


def measure_spatial(probe: Probe, name: str) -> tuple[Group, Matrix] | None:
    """A convolution as one along each axis, and its spectrum; None for what has no two axes."""
    site = probe.sites[name]
    if reason_against_conv(site, "spatial") is not None:
        return None
    reduction = Reduction(form="spatial", sites=(name,), rank=1)
    spectrum = spectrum_of(site, reduction, probe.statistics, probe.method).energies
    found = probe.sensitivity(reduction, spectrum, _break_even(site, reduction))
    return _group(FoundGroup(form="spatial", sites=(name,)), spectrum, found), spectrum


def measure_pair(probe: Probe, pair: FoundGroup) -> tuple[Group, Matrix] | None:
    """Attention heads with fewer channels, and their spectrum.

    Args:
        probe: The model.
        pair: Of form ``query-key`` or ``value-output``.

    Returns:
        None when the attention does something else between the two layers.
    """
    whole = Reduction(form=pair.form, sites=pair.sites, rank=pair.head_size, heads=pair.heads)
    layers = [site for name in pair.sites if isinstance(site := probe.sites[name], nn.Linear)]
    half = any(torch.finfo(layer.weight.dtype).bits < 32 for layer in layers)
    if probe.measure(whole) > (SAME_OUTPUT_HALF if half else SAME_OUTPUT):
        return None
    narrow = query_key if pair.form == "query-key" else value_output
    spectrum = narrow(layers, whole, probe.statistics).energies
    return _group(pair, spectrum, probe.sensitivity(whole, spectrum, pair.head_size)), spectrum


def joint_group(probe: Probe, group: FoundGroup, slopes: Mapping[str, Sensitivity]) -> tuple[Group, Spectrum]:
    """Sites that may share ``down``, and what each gets of the energies.

    Args:
        probe: The model.
        group: Of form ``joint``.
        slopes: Sensitivities of its sites.
    """
    emphasis = {name: slopes[name].slope or 1.0 for name in group.sites}
    layers = [probe.sites[name] for name in group.sites]
    found = joint_spectrum(layers, group.sites, probe.statistics, probe.method, emphasis)
    nothing = Sensitivity(points=())
    made = Group(form="joint", sites=group.sites, heads=1, head_size=0, energy=0.0, sensitivity=nothing)
    return made, found


def _break_even(site: nn.Module, reduction: Reduction) -> int:
    """The rank at which two factors are as large as the matrix."""
    rows, columns = matrix_of(site, conv_form(reduction)).shape
    return int(rows * columns / (rows + columns))


def _group(found: FoundGroup, spectrum: Matrix, slope: Sensitivity) -> Group:
    return Group(
        form=found.form,
        sites=found.sites,
        heads=found.heads,
        head_size=found.head_size,
        energy=float(spectrum.sum()),
        sensitivity=slope,
    )
