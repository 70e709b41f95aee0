"""Whole surveys are in ``test_torch_module.py`` and ``test_onnx_graph.py``; here, what is written is read."""

import numpy as np
import pytest

from edgelr.lowrank.factoring import Spectrum
from edgelr.lowrank.statistics import BASES, Statistics
from edgelr.lowrank.weight import Weight
from edgelr.runtime.arrays import arrays_file, read_arrays
from edgelr.structure import LeftDense, Site
from edgelr.survey.findings import Findings, measure_alone, measure_together, write_survey
from edgelr.survey.measure import Probe

RANDOM = np.random.default_rng(0)
WEIGHTS = {name: Weight(kind="linear", values=RANDOM.normal(size=(8, 6))) for name in ("a", "b")}
GRAM = np.eye(6)


def probe(change=None) -> Probe:
    statistics = Statistics(inputs={"a": "x", "b": "x"}, grams={"x": GRAM}, sums={}, curvatures={})
    return Probe(
        weight=WEIGHTS.__getitem__, statistics=statistics, method="whitened", points=1, change=change
    )


@pytest.mark.parametrize("measured", [False, True])
def test_what_is_found_is_what_is_read(tmp_path, measured):
    notes = []

    def hear(*, note: str) -> None:
        notes.append(note)

    trying = probe((lambda reduction, _: 0.1 * reduction.rank) if measured else None)
    with arrays_file(tmp_path / BASES) as bases:
        known = Findings(bases=bases, skipped=[LeftDense(name="c", reason="because")])
        measure_alone(trying, {"a": (), "b": ()}, known, hear)
        measure_together(trying, [("a", "b")], known, hear)
        known.keep("large", Spectrum(energies=np.ones(2), basis=np.ones((2, 2), np.float32)))
    sites = [
        Site(name=name, kind="linear", out=8, in_=6, inputs="x", calls=1, energy=1.0, sensitivity=slope)
        for name, slope in known.slopes.items()
    ]
    read = write_survey(tmp_path, sites, known, trying, tokens=5, unit="call", parameters=99)
    assert notes == ["a", "b", "a"]
    assert read.sites == tuple(sites)
    assert [group.name for group in read.groups] == ["joint:a"]
    assert (read.tokens, read.unit, read.parameters) == (5, "call", 99)
    assert (read.measured, read.factors) == (measured, "whitened")
    assert read.skipped == (LeftDense(name="c", reason="because"),)
    assert all(bool(site.sensitivity.points) == measured for site in read.sites)
    assert set(read_arrays(tmp_path / "spectra.npz")) == {"a", "b", "joint:a", "large"}
    assert set(read_arrays(tmp_path / BASES)) == {"large"}
