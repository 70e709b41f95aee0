import json

import numpy as np
import pytest

from edgelr.artifacts import Site, Survey
from edgelr.errors import UsageError
from edgelr.plan.stage import plan
from edgelr.recipe.schema import Compress


@pytest.fixture
def survey(tmp_path):
    folder = tmp_path / "survey"
    folder.mkdir()
    random = np.random.default_rng(0)
    spectra = {name: np.sort(random.exponential(size=32))[::-1] for name in ("a", "b")}
    np.savez(folder / "spectra.npz", **spectra)
    sites = tuple(
        Site(
            name=name,
            kind="linear",
            out=32,
            in_=64,
            inputs=name,
            calls=1,
            energy=float(spectra[name].sum()),
            sensitivity=slope,
        )
        for name, slope in (("a", 1.0), ("b", 100.0))
    )
    return Survey(folder=folder, sites=sites, skipped=(), tokens=10, parameters=10_000)


def settings(**values) -> Compress:
    document = {"keep": {"parameters": 0.6}, "rank_multiple": 4, **values}
    return Compress.model_validate_json(json.dumps(document))


def test_the_sensitive_site_gets_more_within_the_budget(survey, tmp_path):
    chosen = plan(survey, settings(), "fp32", tmp_path)
    kept = {site.name: site.kept_share for site in chosen.sites}
    assert kept["b"] > kept["a"]
    assert chosen.kept_share <= 0.6
    assert chosen.candidate.parameters == 10_000 - 2 * 32 * 64 + round(chosen.kept_share * 2 * 32 * 64)


def test_uniform_ignores_sensitivity(survey, tmp_path):
    chosen = plan(survey, settings(allocate="uniform"), "fp32", tmp_path)
    assert len({site.rank for site in chosen.sites}) == 1


def test_everything_kept_leaves_everything_dense(survey, tmp_path):
    chosen = plan(survey, settings(keep={"parameters": 1.0}), "fp32", tmp_path)
    assert chosen.ranks == {}
    assert chosen.predicted_loss == 0
    assert chosen.candidate.parameters == chosen.dense.parameters


def test_a_share_that_leaves_no_rank_is_a_usage_error(survey, tmp_path):
    with pytest.raises(UsageError, match=r"compress\.keep: a share of 0\.01 leaves no rank"):
        plan(survey, settings(keep={"parameters": 0.01}), "fp32", tmp_path)
