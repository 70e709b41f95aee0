import pytest
import torch
from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.layers import LowRankLinear, low_rank_linear, replace_module, restructure
from edgelr.lowrank.svd import plain_factors


def dense() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 4)


def test_full_rank_computes_what_the_dense_layer_does():
    layer = dense()
    low = low_rank_linear(layer, plain_factors(layer.weight.detach().double().numpy(), 4))
    x = torch.randn(3, 5, 6)
    torch.testing.assert_close(low(x), layer(x))  # fp32 rounding of a product of two factors
    torch.testing.assert_close(low.weight, layer.weight)


def test_a_layer_without_bias_has_none():
    layer = nn.Linear(6, 4, bias=False)
    low = low_rank_linear(layer, plain_factors(layer.weight.detach().double().numpy(), 2))
    assert low.bias is None
    assert low(torch.ones(1, 6)).shape == (1, 4)


def test_replace_and_restructure_reach_nested_modules():
    model = nn.Sequential(nn.Sequential(dense()))
    replace_module(model, "0.0", nn.Linear(6, 4))
    restructure(model, {"0.0": 2})
    found = model.get_submodule("0.0")
    assert isinstance(found, LowRankLinear)
    assert (found.rank, found.in_features, found.out_features) == (2, 6, 4)


@pytest.mark.parametrize("name", ["0.1", "nothing", "0"])
def test_a_structure_of_another_model_is_refused(name):
    model = nn.Sequential(nn.Sequential(dense(), nn.ReLU()))
    with pytest.raises(UnsupportedModelError, match=f"'{name}'"):
        restructure(model, {name: 2})
