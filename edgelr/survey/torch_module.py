"""Survey of a torch module: statistics, spectra and sensitivities of every site and group, for any task."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from edgelr.artifacts import Survey
from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.conv import Conv
from edgelr.lowrank.kinds import matrix_of, weight_of
from edgelr.lowrank.statistics import BASES, Statistics, read_statistics
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress, Factors
from edgelr.runtime.arrays import arrays_file
from edgelr.structure import LeftDense, Reduction, Site
from edgelr.survey.channels import reorderable
from edgelr.survey.findings import Findings, measure_alone, measure_together, write_survey
from edgelr.survey.groups import Found as FoundGroup
from edgelr.survey.groups import find_groups
from edgelr.survey.measure import Probe
from edgelr.survey.sites import Found, find_sites
from edgelr.survey.subject import Subject, check_weights, gather_to_file
from edgelr.survey.trial import SAME_OUTPUT, measure_change, measure_pair
from edgelr.survey.watch import Sums


def survey_module(subject: Subject, compress: Compress, folder: Path, progress: Progress) -> Survey:
    """List sites and groups; gather statistics, spectra and sensitivities.

    Args:
        subject: The model and its data.
        compress: Which sites, how they are factored and measured.
        folder: Where the Survey is written.
        progress: Where to show how far it is.

    Raises:
        UnsupportedModelError: No layer can be factored.
        DataError: Activations are not finite.
    """
    check_weights(subject.model)
    found = find_sites(subject.model, compress.include, compress.exclude, vocabulary=compress.vocabulary)
    with _at_rest(subject.model):
        sums = gather_to_file(subject, found, compress, folder, progress)
        with read_statistics(folder, sums.inputs) as statistics, arrays_file(folder / BASES) as bases:
            reached, idle = _reached(found, statistics, progress)
            centered = _with_bias(found, reached) if compress.center else frozenset()
            known = Findings(bases=bases, skipped=[*found.skipped, *idle])
            change = _change(subject) if subject.few else None
            probe = Probe(
                weight=lambda name: weight_of(reached[name]),
                statistics=replace(statistics, centered=centered),
                method=compress.factors,
                points=compress.calibration.sensitivity_points,
                change=_trial(subject.model, compress.factors, change) if change is not None else None,
            )
            # What changes the matrix of one module must not leave another with the old one.
            alone = {name: site for name, site in reached.items() if name not in found.shared}
            groups = find_groups(subject.model, alone, sums.inputs)
            usable = [group for group in groups if group.form == "joint" or _may_shrink(group, subject.heads)]
            _measure(probe, found, reached, usable, known, progress)
            if change is not None:
                order = list(sums.inputs)
                known.pivotable = reorderable(subject.model, alone, order, change, SAME_OUTPUT)
    sites = [replace(_site(name, found, sums, known), centered=name in centered) for name in reached]
    return write_survey(
        folder,
        sites,
        known,
        probe,
        tokens=sums.tokens,
        unit=subject.unit,
        parameters=sum(parameter.numel() for parameter in subject.model.parameters()),
    )


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode and with no parameter that wants a gradient; as before afterwards."""
    training = [module for module in model.modules() if module.training]
    wanting = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in wanting:
            parameter.requires_grad_(True)


def _reached(
    found: Found, statistics: Statistics, progress: Progress
) -> tuple[dict[str, nn.Module], list[LeftDense]]:
    """The sites that ran, and those that did not: without an input there is nothing to choose factors by."""
    reached = {name: site for name, site in found.sites.items() if _ran(found, statistics, name)}
    if not reached:
        raise UnsupportedModelError(
            f"none of the {len(found.sites)} layers to factor ran on the calibration data, "
            f"such as '{next(iter(found.sites))}'",
            "check compress.include: these are parts that the task does not use",
        )
    idle = [name for name in found.sites if name not in reached]
    for name in idle:
        progress.warn(f"'{name}' never ran on the calibration data and is left dense")
    return reached, [LeftDense(name=name, reason="never ran on the calibration data") for name in idle]


def _with_bias(found: Found, reached: Iterable[str]) -> frozenset[str]:
    """Linear sites with a bias of their own, which can take what factors leave of the mean."""
    linear = ("linear", "transposed-linear")
    alone = [name for name in reached if found.kind(name) in linear and name not in found.shared]
    return frozenset(name for name in alone if found.sites[name].bias is not None)


def _ran(found: Found, statistics: Statistics, name: str) -> bool:
    """A table is chosen by its tokens and by what its head reads: both must have been seen."""
    tied = found.kind(name) == "tied-embedding"
    return name in statistics.counts and name in statistics.heads if tied else name in statistics.inputs


def _measure(
    probe: Probe,
    found: Found,
    reached: Mapping[str, nn.Module],
    groups: Sequence[FoundGroup],
    known: Findings,
    progress: Progress,
) -> None:
    """Find spectra and sensitivities of all sites, of convolutions along their axes, and of groups."""
    measured = probe.change is not None
    pairs = [group for group in groups if group.form != "joint"] if measured else []  # of no use without
    joint = [group.sites for group in groups if group.form == "joint"]
    label = "measuring sensitivities" if measured else "computing spectra"
    with progress.bar(label, len(reached) + len(pairs) + len(joint)) as advance:
        shared = {name: tuple(found.shared.get(name, ())) for name in reached}
        measure_alone(probe, shared, known, advance)
        for pair in pairs:
            layers = [site for name in pair.sites if isinstance(site := reached[name], nn.Linear)]
            if (made := measure_pair(probe, pair, layers)) is not None:
                known.add(*made)
            else:
                known.skipped.append(_no_pair(pair))
            advance(note=pair.sites[0])
        measure_together(probe, joint, known, advance)


def _no_pair(pair: FoundGroup) -> LeftDense:
    return LeftDense(
        name=f"{pair.sites[0]} with {pair.sites[1]}",
        reason="as attention heads: the layer computes more than their product",
    )


def _trial(
    model: nn.Module, method: Factors, change: Callable[[], float]
) -> Callable[[Reduction, Statistics], float]:
    def trial(reduction: Reduction, statistics: Statistics) -> float:
        return measure_change(model, reduction, statistics, method, change)

    return trial


def _change(subject: Subject) -> Callable[[], float]:
    with torch.inference_mode():
        references = [subject.run(subject.model, batch) for batch in subject.few]

    def change() -> float:
        changes = [
            subject.distance(subject.run(subject.model, batch), reference)
            for batch, reference in zip(subject.few, references, strict=True)
        ]
        return float(torch.cat(changes).double().mean())

    return change


def _site(name: str, found: Found, sums: Sums, known: Findings) -> Site:
    module = found.sites[name]
    out, in_ = matrix_of(module).shape
    kernel, stride = (module.kernel_size, module.stride) if isinstance(module, Conv) else ((), ())
    return Site(
        name=name,
        kind=found.kind(name),
        out=out,
        in_=in_,
        inputs=sums.inputs[name],
        calls=max(1, round(sums.rows[name] / max(1, sums.units))),
        energy=float(known.spectra[name].sum()),
        sensitivity=known.slopes[name],
        shared=tuple(found.shared.get(name, ())),
        pivotable=name in known.pivotable,
        kernel=kernel,
        stride=stride,
    )


def _may_shrink(group: FoundGroup, heads: str) -> bool:
    return all(fnmatch.fnmatchcase(name, heads) for name in group.sites)
