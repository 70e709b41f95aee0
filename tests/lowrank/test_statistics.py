from pathlib import Path

import numpy as np
import pytest

from edgelr.artifact_files import read_survey, write_json
from edgelr.lowrank.statistics import BASES, STATISTICS, Statistics, open_statistics, statistics_file
from edgelr.runtime.arrays import write_arrays

X = np.random.default_rng(0).normal(size=(20, 3)) + 2
GRADIENTS = np.random.default_rng(1).normal(size=(20, 4))


@pytest.fixture
def statistics():
    """Two sites that read the same input, of which one has a curvature."""
    return Statistics(
        inputs={"a": "a", "b": "a"},
        grams={"a": X.T @ X},
        sums={"a": np.append(X.sum(axis=0), len(X))},
        curvatures={"b": GRADIENTS.T @ GRADIENTS},
    )


def write(statistics: Statistics, folder: Path) -> None:
    with statistics_file(folder) as append:
        append(statistics)


def check(found: Statistics) -> None:
    for site in ("a", "b"):
        np.testing.assert_allclose(found.gram(site), X.T @ X)
        mean, tokens = found.mean(site)
        np.testing.assert_allclose(mean, X.mean(axis=0))
        assert tokens == 20
        np.testing.assert_allclose(found.covariance(site), np.cov(X.T, bias=True) * 20, atol=1e-9)
    assert found.curvature("a") is None
    curvature = found.curvature("b")
    assert curvature is not None
    assert curvature.dtype == np.float64
    np.testing.assert_allclose(curvature, GRADIENTS.T @ GRADIENTS, rtol=1e-6)


def test_moments_are_those_of_the_tokens(statistics):
    check(statistics)


def test_no_token_at_all_has_the_mean_zero():
    nothing = Statistics(
        inputs={"a": "a"}, grams={"a": np.zeros((3, 3))}, sums={"a": np.zeros(4)}, curvatures={}
    )
    mean, tokens = nothing.mean("a")
    np.testing.assert_array_equal(mean, 0)
    assert tokens == 0


@pytest.fixture
def survey(tmp_path):
    sites = [
        {"name": name, "kind": "linear", "out": 4, "in_": 3, "inputs": "a", "calls": 1, "energy": 1.0}
        | {"sensitivity": {"points": [[2.0, 0.5]]}, "shared": [], "kernel": [], "stride": []}
        for name in ("a", "b")
    ]
    document = {"sites": sites, "groups": [], "skipped": [], "tokens": 20, "parameters": 24}
    document |= {"measured": True, "factors": "kronecker", "unit": "token"}
    write_json(tmp_path / "survey.json", document)
    return read_survey(tmp_path)


def test_a_file_gives_back_the_same(statistics, survey):
    write(statistics, survey.folder)
    with open_statistics(survey) as found:
        check(found)
        assert list(found.grams) == ["a"]
        assert list(found.curvatures) == ["b"]
        assert (len(found.sums), "b" in found.sums) == (1, False)


def test_the_file_is_the_same_each_time_and_keeps_estimates_short(statistics, survey):
    path = survey.folder / STATISTICS
    write(statistics, survey.folder)
    before = path.read_bytes()
    write(statistics, survey.folder)
    assert path.read_bytes() == before
    with np.load(path) as archive:
        kinds = {name: archive[name].dtype for name in archive.files}
    assert kinds == {"gram:a": np.float64, "sum:a": np.float64, "curvature:b": np.float32}


def test_statistics_of_several_passes_are_one_file(statistics, survey, tmp_path):
    parts = [
        Statistics(inputs=statistics.inputs, grams=statistics.grams, sums=statistics.sums, curvatures={}),
        Statistics(inputs=statistics.inputs, grams={}, sums={}, curvatures=statistics.curvatures),
    ]
    with statistics_file(tmp_path) as append:
        for part in parts:
            append(part)
    with open_statistics(survey) as found:
        check(found)


def test_bases_are_of_the_method_of_the_survey_alone(statistics, survey):
    write(statistics, survey.folder)
    write_arrays(survey.folder / BASES, {"a": np.eye(3, dtype=np.float32)})
    for method, names in ((None, ["a"]), ("kronecker", ["a"]), ("whitened", []), ("plain", [])):
        with open_statistics(survey, method) as found:
            assert list(found.bases) == names
