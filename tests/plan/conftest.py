"""Surveys of made-up models, written as the stage writes them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgelr.artifacts import Survey
from edgelr.structure import Group, Sensitivity, Site

HEADS, HEAD_SIZE, WIDTH = 2, 16, 32
PARTS = ("q", "k", "v", "o")


def spectrum(size: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.sort(np.random.default_rng(seed).exponential(size=size))[::-1].copy()


def slope(value: float) -> Sensitivity:
    return Sensitivity(points=((1.0, value),))


@pytest.fixture
def attention(tmp_path: Path) -> Callable[..., Survey]:
    """An attention of one layer and a lone site, with all their groups: ``attention(q=100.0)``.

    Each keyword is what a unit of a site's energy, or of a pair's (``qk``, ``vo``), costs; 1 when not given.
    """

    def make(**slopes: float) -> Survey:
        folder = tmp_path / "survey"
        folder.mkdir(exist_ok=True)
        spectra = {name: spectrum(WIDTH, seed) for seed, name in enumerate((*PARTS, "lone"))}
        sites = tuple(
            Site(
                name=name,
                kind="linear",
                out=WIDTH,
                in_=WIDTH,
                inputs=name if name in ("o", "lone") else "q",
                calls=1,
                energy=float(spectra[name].sum()),
                sensitivity=slope(slopes.get(name, 1.0)),
            )
            for name in (*PARTS, "lone")
        )
        groups = [
            Group(
                form="joint",
                sites=PARTS[:3],
                heads=1,
                head_size=0,
                energy=0.0,
                sensitivity=Sensitivity(points=()),
            )
        ]
        # A shared `down` cannot be better than each site's own.
        spectra["joint:q"] = np.stack([1.2 * spectra[name] for name in PARTS[:3]])
        for form, names in (("query-key", ("q", "k")), ("value-output", ("v", "o"))):
            energies = spectrum(HEAD_SIZE, 9)
            spectra[f"{form}:{names[0]}"] = energies
            groups.append(
                Group(
                    form=form,  # type: ignore[arg-type]
                    sites=names,
                    heads=HEADS,
                    head_size=HEAD_SIZE,
                    energy=float(energies.sum()),
                    sensitivity=slope(slopes.get("".join(names), 1.0)),
                )
            )
        np.savez(folder / "spectra.npz", **spectra)  # type: ignore[arg-type]
        return Survey(
            folder=folder, sites=sites, groups=tuple(groups), skipped=(), tokens=10, parameters=10_000
        )

    return make
