"""What a site or a group is worth: its spectrum, and what the output loses when only it is reduced.

Nothing here knows what form the model has: it is asked for a weight, and for the change under a reduction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgelr.lowrank.conv_cost import has_two_axes
from edgelr.lowrank.factoring import Spectrum, conv_form, joint_spectrum, spectrum_of
from edgelr.lowrank.statistics import Statistics
from edgelr.lowrank.svd import Matrix
from edgelr.lowrank.weight import Weight
from edgelr.recipe.schema import Factors
from edgelr.structure import Group, Reduction, Sensitivity
from edgelr.survey.sensitivity import probe_ranks, sensitivity


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How reductions are tried out.

    Attributes:
        weight: Site -> its weight.
        statistics: Of the sites.
        method: How factors are chosen.
        points: Ranks that each is measured at.
        change: (reduction, statistics) -> mean change of the model's output under that reduction alone, over
            some examples. None when sensitivities are not measured.
    """

    weight: Callable[[str], Weight]
    statistics: Statistics
    method: Factors
    points: int
    change: Callable[[Reduction, Statistics], float] | None

    def measure(self, reduction: Reduction) -> float:
        """Mean change of the output under one reduction alone."""
        assert self.change is not None
        return self.change(reduction, self.statistics)

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
        shared: Other layers with the same weight.
    """
    weight = probe.weight(name)
    reduction = Reduction(form="low-rank", sites=(name,), rank=1, shared=tuple(shared))
    found = spectrum_of(weight, reduction, probe.statistics, probe.method)
    if found.basis is not None:
        probe = replace(probe, statistics=replace(probe.statistics, bases={name: found.basis}))
    return found, probe.sensitivity(reduction, found.energies, _break_even(weight, reduction))


def measure_spatial(probe: Probe, name: str) -> tuple[Group, Matrix] | None:
    """A convolution as one along each axis, and its spectrum; None for what has no two axes."""
    weight = probe.weight(name)
    if not has_two_axes(weight.kernel):
        return None
    reduction = Reduction(form="spatial", sites=(name,), rank=1)
    spectrum = spectrum_of(weight, reduction, probe.statistics, probe.method).energies
    found = probe.sensitivity(reduction, spectrum, _break_even(weight, reduction))
    group = Group(
        form="spatial",
        sites=(name,),
        heads=1,
        head_size=0,
        energy=float(spectrum.sum()),
        sensitivity=found,
    )
    return group, spectrum


def joint_group(
    probe: Probe, names: Sequence[str], slopes: Mapping[str, Sensitivity]
) -> tuple[Group, Spectrum]:
    """Sites that may share ``down``, and what each gets of the energies.

    Args:
        probe: The model.
        names: The sites; they read the same input.
        slopes: Sensitivities of the sites.
    """
    emphasis = {name: slopes[name].slope or 1.0 for name in names}
    weights = [probe.weight(name) for name in names]
    found = joint_spectrum(weights, names, probe.statistics, probe.method, emphasis)
    nothing = Sensitivity(points=())
    made = Group(form="joint", sites=tuple(names), heads=1, head_size=0, energy=0.0, sensitivity=nothing)
    return made, found


def _break_even(weight: Weight, reduction: Reduction) -> int:
    """The rank at which two factors are as large as the matrix."""
    rows, columns = weight.matrix(conv_form(reduction)).shape
    return int(rows * columns / (rows + columns))
