import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from edgelr.errors import UnsupportedModelError
from edgelr.survey.sites import find_sites


def model() -> nn.Module:
    net = nn.ModuleDict({"emb": nn.Embedding(9, 4), "norm": nn.LayerNorm(4)})
    net.update({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    net["block"] = nn.ModuleDict({"q": nn.Linear(4, 4), "o": nn.Linear(4, 4)})
    return net


def reasons(net: nn.Module, include=("*",), exclude=()) -> dict[str, str]:
    return {entry.name: entry.reason for entry in find_sites(net, include, exclude).skipped}


def test_linears_are_sites_in_module_order_and_the_rest_has_a_reason():
    assert list(find_sites(model(), ("*",), ()).sites) == ["a", "b", "block.q", "block.o"]
    assert reasons(model()) == {"emb": "an embedding: compress.vocabulary is off"}  # a norm has no matrix


def test_include_and_exclude_are_globs_over_dotted_names():
    assert list(find_sites(model(), ("a", "block.*"), ("*.o",)).sites) == ["a", "block.q"]
    found = reasons(model(), ("a", "block.*"), ("*.o",))
    assert found["b"] == "not in compress.include"
    assert found["block.o"] == "excluded by '*.o'"


def kinds(net: nn.Module, **options: bool) -> dict[str, str]:
    found = find_sites(net, ("*",), (), **options)
    return {name: found.kind(name) for name in found.sites}


def test_every_kind_is_found_and_embeddings_when_asked_for():
    net = nn.ModuleDict({"emb": nn.Embedding(9, 4), "lin": nn.Linear(4, 4), "gpt": Conv1D(4, 4)})
    net.update({"one": nn.Conv1d(4, 4, 3), "two": nn.Conv2d(4, 4, 3), "wide": nn.Conv3d(4, 4, 3)})
    net.update({"depth": nn.Conv2d(4, 4, 3, groups=2), "norm": nn.BatchNorm2d(4)})
    found = {"lin": "linear", "gpt": "transposed-linear", "one": "conv", "two": "conv"}
    assert kinds(net) == found
    assert kinds(net, vocabulary=True) == {"emb": "embedding", **found}
    assert reasons(net) == {
        "emb": "an embedding: compress.vocabulary is off",
        "wide": "Conv3d is no layer with a matrix to factor",
        "depth": "its 2 groups of channels are not one matrix",
    }


def tied(first: str) -> nn.Module:
    """A head that comes before or after the embedding whose table is its matrix."""
    layers = {"emb": nn.Embedding(9, 4), "head": nn.Linear(4, 9)}
    net = nn.ModuleDict({name: layers[name] for name in sorted(layers, key=lambda name: name != first)})
    net["b"] = nn.Linear(4, 4)
    net["head"].weight = net["emb"].weight
    return net


@pytest.mark.parametrize("first", ["emb", "head"])
def test_an_embedding_and_its_head_are_one_site_or_none(first):
    # Factored in one of them, the factors would come on top of the matrix that the other still needs.
    assert kinds(tied(first)) == {"b": "linear"}
    assert reasons(tied(first))["head"] == "shares its weight with 'emb'"
    assert kinds(tied(first), vocabulary=True) == {"emb": "tied-embedding", "b": "linear"}
    found = find_sites(tied(first), ("*",), (), vocabulary=True)
    assert list(found.shared["emb"]) == ["head"]
    excluded = find_sites(tied(first), ("*",), ("head",), vocabulary=True)
    assert list(excluded.sites) == ["b"]
    assert {entry.name: entry.reason for entry in excluded.skipped} == {
        "emb": "shares its weight with 'head'",
        "head": "excluded by 'head'",
    }


def test_linears_with_one_weight_are_one_site_and_convolutions_with_one_are_none():
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 4)})
    net.update({"one": nn.Conv1d(4, 4, 3), "two": nn.Conv1d(4, 4, 3, stride=2)})
    net["b"].weight, net["two"].weight = net["a"].weight, net["one"].weight
    found = find_sites(net, ("*",), ())
    assert list(found.sites) == ["a", "c"]
    assert {name: list(others) for name, others in found.shared.items()} == {"a": ["b"]}
    assert reasons(net) == {"one": "shares its weight with 'two'", "two": "shares its weight with 'one'"}


def test_one_module_in_two_places_is_one_site():
    net = nn.ModuleDict({"a": nn.Linear(4, 4)})
    net["again"] = net["a"]
    found = find_sites(net, ("*",), ())
    assert list(found.sites) == ["a"]
    assert found.shared == {"a": {"again": net["a"]}}


def test_a_block_that_runs_twice_has_its_layers_in_one_place():
    net = nn.ModuleDict({"first": nn.Sequential(nn.Linear(4, 4))})
    net["second"] = net["first"]
    found = find_sites(net, ("*",), ())
    assert list(found.sites) == ["first.0"]
    assert found.shared == {}


class Scaled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def test_a_linear_that_computes_something_else_is_left_as_it_is():
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "s": Scaled(4, 4)})
    assert reasons(net) == {"s": "Scaled computes more than a linear layer"}


def test_nothing_left_is_an_error_that_names_a_layer_and_why():
    with pytest.raises(UnsupportedModelError, match=r"include: nothing\*; exclude: nothing") as error:
        find_sites(model(), ("nothing*",), ())
    assert error.value.exit_code == 4
    assert "'a' was left out: not in compress.include" in str(error.value)
    with pytest.raises(UnsupportedModelError, match="no weight matrix at all"):
        find_sites(nn.LayerNorm(4), ("*",), ())


def test_matrices_inside_other_layers_are_left_with_the_reason():
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "gru": nn.GRU(4, 4), "mha": nn.MultiheadAttention(4, 2)})
    net["normed"] = torch.nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3))
    net.register_parameter("free", nn.Parameter(torch.zeros(2, 2)))
    found = {entry.name: entry.reason for entry in find_sites(net, ("*",), ()).skipped}
    inside = "GRU multiplies by it step by step, inside"
    assert found["gru.weight_ih_l0"] == found["gru.weight_hh_l0"] == inside
    assert found["mha.in_proj_weight"] == "a matrix inside MultiheadAttention"
    assert found["free"] == "a matrix inside ModuleDict"
    assert not any("parametrizations" in name for name in found)
    with pytest.raises(UnsupportedModelError, match="'weight_ih_l0' was left out: GRU multiplies"):
        find_sites(nn.GRU(4, 4), ("*",), ())
