"""What a survey finds, of whatever form of model: gathered site by site, then written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgelr.artifact_files import read_survey, write_json
from edgelr.artifacts import Survey
from edgelr.lowrank.factoring import Spectrum
from edgelr.lowrank.statistics import SPECTRA
from edgelr.lowrank.svd import Matrix
from edgelr.runtime.arrays import ArraysFile, write_arrays
from edgelr.structure import Group, LeftDense, Sensitivity, Site
from edgelr.survey.measure import Probe, joint_group, measure_site, measure_spatial


@dataclass(kw_only=True)
class Findings:
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


def measure_alone(
    probe: Probe, shared: Mapping[str, Sequence[str]], known: Findings, advance: Callable[..., None]
) -> None:
    """Measure every site by itself, and convolutions along their axes.

    Args:
        probe: The model.
        shared: Site -> other layers with its weight; every site is there.
        known: Where to note it.
        advance: Called after every site.
    """
    for name, others in shared.items():
        spectrum, known.slopes[name] = measure_site(probe, name, others)
        known.keep(name, spectrum)
        if not others and (made := measure_spatial(probe, name)) is not None:
            known.add(*made)
        advance(note=name)


def measure_together(
    probe: Probe, groups: Sequence[Sequence[str]], known: Findings, advance: Callable[..., None]
) -> None:
    """Measure sites that may share ``down``, once each has been measured by itself.

    Args:
        probe: The model.
        groups: The sites of each.
        known: Where to note it.
        advance: Called after every group.
    """
    for names in groups:
        together, spectrum = joint_group(probe, names, known.slopes)
        known.groups.append(together)
        known.keep(together.name, spectrum)
        advance(note=names[0])


def write_survey(
    folder: Path,
    sites: Sequence[Site],
    known: Findings,
    probe: Probe,
    *,
    tokens: int,
    unit: str,
    parameters: int,
) -> Survey:
    """Write what was found.

    Args:
        folder: Where statistics and bases are already.
        sites: In the order of the model.
        known: Their spectra, their groups, and what is left dense.
        probe: What they were measured with.
        tokens: See ``artifacts.Survey``.
        unit: Likewise.
        parameters: Likewise.
    """
    write_arrays(folder / SPECTRA, known.spectra)
    write_json(
        folder / "survey.json",
        {
            "sites": [asdict(site) for site in sites],
            "groups": [asdict(group) for group in known.groups],
            "skipped": [asdict(entry) for entry in known.skipped],
            "tokens": tokens,
            "parameters": parameters,
            "measured": probe.change is not None,
            "factors": probe.method,
            "unit": unit,
        },
    )
    return read_survey(folder)
