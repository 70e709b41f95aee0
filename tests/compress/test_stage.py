import numpy as np
import pytest
import torch
from torch import nn

from edgelr.compress.stage import factor, factor_site
from edgelr.lowrank.layers import LowRankLinear


@pytest.mark.parametrize("method", ["plain", "whitened"])
def test_full_rank_computes_what_the_dense_model_does(method):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 4)), torch.randn(20, 6)
    before = model(x)
    gram = (x.T @ x).double().numpy()
    factor_site(model, "0", 4, method, gram)
    assert isinstance(model[0], LowRankLinear)
    torch.testing.assert_close(model(x), before)


def test_the_methods_differ_where_inputs_are_not_white():
    random = np.random.default_rng(0)
    weight = random.normal(size=(6, 6))
    gram = np.diag(np.geomspace(1, 1e-4, 6))
    plain, whitened = (factor(weight, gram, 2, method).product for method in ("plain", "whitened"))
    errors = [np.trace((weight - w) @ gram @ (weight - w).T) for w in (plain, whitened)]
    assert errors[1] < errors[0]


def test_every_planned_site_of_a_build_is_factored(built):
    from edgelr.artifact_files import read_factored, read_plan

    plan = read_plan(next((built / ".store" / "plan").glob("*/manifest.json")).parent)
    factored = read_factored(next((built / ".store" / "compress").glob("*/manifest.json")).parent)
    assert factored.ranks == plan.ranks
    assert factored.ranks
