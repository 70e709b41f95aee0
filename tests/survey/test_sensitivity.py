import pytest
import torch
from torch import nn

from edgelr.lowrank.svd import plain_factors
from edgelr.survey.sensitivity import measure_change


@pytest.mark.parametrize("rank", [1, 4])
def test_the_change_is_that_of_the_one_site_and_the_model_is_as_before(rank):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    dense, x = model[0], torch.randn(8, 4)
    reference = model(x).detach()
    factors = plain_factors(dense.weight.detach().double().numpy(), rank)
    change = measure_change(
        model,
        "0",
        factors,
        [{"x": x}],
        [reference],
        lambda batch, expected: (model(batch["x"]) - expected).square().sum(1),
    )
    assert model[0] is dense
    assert (change > 1e-3) == (rank == 1)  # full rank changes nothing but rounding
