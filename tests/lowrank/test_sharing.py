"""Modules with one weight share its factors, and keep what is their own."""

import pytest
import torch
from torch import nn

from edgelr.lowrank.embedding import LowRankEmbedding, LowRankHead
from edgelr.lowrank.kinds import empty_like, low_rank_like, matrix_of
from edgelr.lowrank.sharing import shared_layers
from edgelr.lowrank.svd import decompose


def exact(module: nn.Module) -> nn.Module:
    matrix = matrix_of(module).double().numpy()
    return low_rank_like(module, decompose(matrix).truncated(min(matrix.shape)))


def test_linears_share_factors_and_have_their_own_biases():
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 4, bias=False)})
    net["b"].weight = net["c"].weight = net["a"].weight
    x = torch.randn(5, 4)
    made = exact(net["a"])
    others = shared_layers(net, ["b", "c"], net["a"], made)
    for name, layer in others.items():
        assert layer.up is made.up
        assert layer.down is made.down
        torch.testing.assert_close(layer(x), net[name](x), atol=1e-5, rtol=1e-5)
    assert others["c"].bias is None


@pytest.mark.parametrize("bias", [True, False])
def test_an_embedding_shares_its_table_with_a_head_and_another_embedding(bias):
    net = nn.ModuleDict(
        {"a": nn.Embedding(9, 4), "head": nn.Linear(4, 9, bias=bias), "b": nn.Embedding(9, 4, padding_idx=2)}
    )
    net["b"].weight = net["head"].weight = net["a"].weight
    made = exact(net["a"])
    others = shared_layers(net, ["head", "b"], net["a"], made)
    assert isinstance(others["head"], LowRankHead)
    assert isinstance(others["b"], LowRankEmbedding)
    assert others["b"].padding_idx == 2
    for layer in others.values():
        assert layer.table is made.table
        assert layer.up is made.up
    torch.testing.assert_close(others["b"](torch.arange(9)), net["a"].weight, atol=1e-5, rtol=1e-5)
    hidden = torch.randn(3, 4)
    torch.testing.assert_close(others["head"](hidden), net["head"](hidden), atol=1e-5, rtol=1e-5)


def test_one_module_under_several_names_is_one_layer():
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    net["again"], net["b again"] = net["a"], net["b"]
    net["b"].weight = net["a"].weight
    made = exact(net["a"])
    others = shared_layers(net, ["again", "b", "b again"], net["a"], made)
    assert others["again"] is made
    assert others["b again"] is others["b"]
    assert others["b"] is not made


def test_structure_without_weights_shares_too():
    net = nn.ModuleDict({"a": nn.Linear(4, 6), "b": nn.Linear(4, 6)})
    net["b"].weight = net["a"].weight
    made = empty_like(net["a"], 2)
    assert shared_layers(net, ["b"], net["a"], made)["b"].up is made.up
