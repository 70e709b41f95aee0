"""Survey of a torch module: statistics, spectra and sensitivities of every site and group, for any task."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from edgelr.artifact_files import read_survey, write_json
from edgelr.artifacts import Survey
from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.conv import Conv
from edgelr.lowrank.factoring import Spectrum
from edgelr.lowrank.kinds import matrix_of
from edgelr.lowrank.statistics import BASES, SPECTRA, Statistics, read_statistics
from edgelr.lowrank.svd import Matrix
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress, Factors
from edgelr.runtime.arrays import ArraysFile, arrays_file, write_arrays
from edgelr.structure import Group, LeftDense, Sensitivity, Site
from edgelr.survey.channels import reorderable
from edgelr.survey.groups import Found as FoundGroup
from edgelr.survey.groups import find_groups
from edgelr.survey.measure import SAME_OUTPUT, Probe, joint_group, measure_pair, measure_site, measure_spatial
from edgelr.survey.sites import Found, find_sites
from edgelr.survey.subject import Subject, check_weights, gather_to_file
from edgelr.survey.watch import Sums


@dataclass(kw_only=True)
class _Findings:
    """What is known so far; large bases go to their file at once."""

    bases: ArraysFile
    spectra: dict[str, Matrix] = field(default_factory=dict)
    slopes: dict[str, Sensitivity] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    skipped: list[LeftDense] = field(default_factory=list)
    pivotable: set[str] = field(default_factory=set)

    def keep(self, name: str, spectrum: Spectrum) -> None:
        """Note the spectrum of a site or a group."""
        self.spectra[name] = spectrum.energies
        if spectrum.basis is not None:
            self.bases.append(name, spectrum.basis)

    def add(self, group: Group, energies: Matrix) -> None:
        """Note a group."""
        self.groups.append(group)
        self.spectra[group.name] = energies


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
            known = _Findings(bases=bases, skipped=[*found.skipped, *idle])
            probe = Probe(
                model=subject.model,
                sites=reached,
                statistics=replace(statistics, centered=centered),
                method=compress.factors,
                points=compress.calibration.sensitivity_points,
                change=_change(subject) if subject.few else None,
            )
            # What changes the matrix of one module must not leave another with the old one.
            alone = {name: site for name, site in reached.items() if name not in found.shared}
            groups = find_groups(subject.model, alone, sums.inputs)
            usable = [group for group in groups if group.form == "joint" or _may_shrink(group, subject.heads)]
            _measure(probe, found, usable, known, progress)
            if probe.change is not None:
                order = list(sums.inputs)
                known.pivotable = reorderable(subject.model, alone, order, probe.change, SAME_OUTPUT)
    write_arrays(folder / SPECTRA, known.spectra)
    sites = [replace(_site(name, found, sums, known), centered=name in centered) for name in reached]
    _write(folder, sites, known, sums.tokens, subject, compress.factors)
    return read_survey(folder)


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
    groups: Sequence[FoundGroup],
    known: _Findings,
    progress: Progress,
) -> None:
    """Find spectra and sensitivities of all sites, of convolutions along their axes, and of groups."""
    measured = probe.change is not None
    pairs = [group for group in groups if group.form != "joint"] if measured else []  # of no use without
    joint = [group for group in groups if group.form == "joint"]
    label = "measuring sensitivities" if measured else "computing spectra"
    with progress.bar(label, len(probe.sites) + len(pairs) + len(joint)) as advance:
        for name in probe.sites:
            shared = tuple(found.shared.get(name, ()))
            spectrum, known.slopes[name] = measure_site(probe, name, shared)
            known.keep(name, spectrum)
            if not shared and (made := measure_spatial(probe, name)) is not None:
                known.add(*made)
            advance(note=name)
        for pair in pairs:
            if (made := measure_pair(probe, pair)) is not None:
                known.add(*made)
            else:
                known.skipped.append(_no_pair(pair))
            advance(note=pair.sites[0])
        for group in joint:
            together, spectrum = joint_group(probe, group, known.slopes)
            known.groups.append(together)
            known.keep(together.name, spectrum)
            advance(note=group.sites[0])


def _no_pair(pair: FoundGroup) -> LeftDense:
    return LeftDense(
        name=f"{pair.sites[0]} with {pair.sites[1]}",
        reason="as attention heads: the layer computes more than their product",
    )


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


def _site(name: str, found: Found, sums: Sums, known: _Findings) -> Site:
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


def _write(
    folder: Path,
    sites: Sequence[Site],
    known: _Findings,
    tokens: int,
    subject: Subject,
    factors: Factors,
) -> None:
    write_json(
        folder / "survey.json",
        {
            "sites": [asdict(site) for site in sites],
            "groups": [asdict(group) for group in known.groups],
            "skipped": [asdict(entry) for entry in known.skipped],
            "tokens": tokens,
            "parameters": sum(parameter.numel() for parameter in subject.model.parameters()),
            "measured": bool(subject.few),
            "factors": factors,
            "unit": subject.unit,
        },
    )
