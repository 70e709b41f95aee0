"""What a survey learned about the inputs and outputs of the sites, in memory or as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.artifacts import Survey
from edgelr.lowrank.svd import Matrix
from edgelr.runtime.arrays import ArraysFile, arrays_file

STATISTICS = "statistics.npz"
SPECTRA = "spectra.npz"
BASES = "bases.npz"


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Sums over the unmasked calibration tokens.

    Attributes:
        inputs: Site -> name of its input; sites that read the same tensor share one.
        grams: Input -> ``Σ x xᵀ`` ``[in, in]``.
        sums: Input -> ``Σ x`` ``[in]``, then the number of tokens: ``[in + 1]``.
        curvatures: Site -> ``Σ g gᵀ`` over gradients of the model's output, ``[out, out]``; empty when not
            gathered.
        outputs: Convolution -> ``Σ y yᵀ`` over its output positions, without the bias, ``[out, out]``.
        columns: Convolution with two axes -> ``Σ x xᵀ`` over the columns of its patches, ``[in·kh, in·kh]``.
        counts: Embedding -> how often each token came, ``[vocabulary]``.
        heads: Embedding whose table is a head's too -> ``Σ h hᵀ`` of the head's inputs, ``[dim, dim]``.
        bases: Spectrum of a large matrix -> what its factors follow from; see ``lowrank.bases``. Empty while
            the survey still looks for them.
        centered: Sites whose factors are fitted to inputs about their mean, which goes into the bias.
    """

    inputs: Mapping[str, str]
    grams: Mapping[str, Matrix]
    sums: Mapping[str, Matrix]
    curvatures: Mapping[str, Matrix]
    outputs: Mapping[str, Matrix] = field(default_factory=dict)
    columns: Mapping[str, Matrix] = field(default_factory=dict)
    counts: Mapping[str, Matrix] = field(default_factory=dict)
    heads: Mapping[str, Matrix] = field(default_factory=dict)
    bases: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    centered: frozenset[str] = frozenset()

    def gram(self, site: str) -> Matrix:
        """``Σ x xᵀ`` of a site's input."""
        return self.grams[self.inputs[site]]

    def mean(self, site: str) -> tuple[Matrix, float]:
        """Mean ``[in]`` of a site's input, and over how many tokens."""
        sums = self.sums[self.inputs[site]]
        return sums[:-1] / max(sums[-1], 1.0), float(sums[-1])

    def about_mean(self, sites: Sequence[str]) -> bool:
        """Whether linear sites with one input are fitted about its mean; to share a factor, all must be."""
        return self.centered.issuperset(sites)

    def fitted(self, sites: Sequence[str]) -> Matrix:
        """What linear sites with one input are fitted to: its ``Σ x xᵀ``, or that about the mean."""
        return self.covariance(sites[0]) if self.about_mean(sites) else self.gram(sites[0])

    def covariance(self, site: str) -> Matrix:
        """``Σ (x - mean) (x - mean)ᵀ`` of a site's input."""
        mean, tokens = self.mean(site)
        return self.gram(site) - tokens * np.outer(mean, mean)

    def curvature(self, site: str) -> Matrix | None:
        """Curvature of the model's output at a site's output, when it was gathered."""
        found = self.curvatures.get(site)
        return None if found is None else found.astype(np.float64)


class _Part(Mapping[str, NDArray[Any]]):
    """The arrays of an opened file whose names start with a prefix, each read when it is asked for."""

    def __init__(self, archive: Mapping[str, NDArray[Any]], prefix: str) -> None:
        self._archive, self._prefix = archive, prefix

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._archive[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._archive if name.startswith(self._prefix))

    def __contains__(self, name: object) -> bool:
        return f"{self._prefix}{name}" in self._archive

    def __len__(self) -> int:
        return sum(1 for _ in self)


@contextmanager
def statistics_file(folder: Path) -> Iterator[Callable[[Statistics], None]]:
    """Open a new ``statistics.npz``; gives what appends statistics to it, such as those of one pass."""
    with arrays_file(folder / STATISTICS) as file:
        yield lambda statistics: _append(file, statistics)


def _append(file: ArraysFile, statistics: Statistics) -> None:
    """Write all arrays in the order they were made; curvatures, which are estimates, in fp32."""
    parts: dict[str, Mapping[str, NDArray[Any]]] = {
        "gram": statistics.grams,
        "sum": statistics.sums,
        "curvature": statistics.curvatures,
        "output": statistics.outputs,
        "column": statistics.columns,
        "count": statistics.counts,
        "head": statistics.heads,
    }
    for part, named in parts.items():
        for name, array in named.items():
            file.append(f"{part}:{name}", array.astype(np.float32) if part == "curvature" else array)


@contextmanager
def open_statistics(survey: Survey, method: str | None = None) -> Iterator[Statistics]:
    """Open a survey's statistics and bases; an array is read when it is asked for.

    Args:
        survey: Of a model.
        method: How factors will be chosen; as the survey did when None. Bases are of the survey's way alone:
            with another one there are none, and large matrices are decomposed again.
    """
    inputs = {site.name: site.inputs for site in survey.sites}
    centered = frozenset(site.name for site in survey.sites if site.centered)
    with read_statistics(survey.folder, inputs) as statistics:
        fit = method is None or method == survey.factors
        yield replace(statistics, centered=centered, bases=statistics.bases if fit else {})


@contextmanager
def read_statistics(folder: Path, inputs: Mapping[str, str]) -> Iterator[Statistics]:
    """Open the statistics in a folder, and the bases where they are there already.

    Args:
        folder: Of a survey.
        inputs: Site -> name of its input.
    """
    bases = folder / BASES
    known = np.load(bases, allow_pickle=False) if bases.is_file() else nullcontext({})
    with np.load(folder / STATISTICS, allow_pickle=False) as archive, known as found:
        yield Statistics(
            inputs=inputs,
            grams=_Part(archive, "gram:"),
            sums=_Part(archive, "sum:"),
            curvatures=_Part(archive, "curvature:"),
            outputs=_Part(archive, "output:"),
            columns=_Part(archive, "column:"),
            counts=_Part(archive, "count:"),
            heads=_Part(archive, "head:"),
            bases=_Part(found, ""),
        )
