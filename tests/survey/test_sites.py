import pytest
import torch
from torch import nn

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
    assert reasons(model()) == {"emb": "Embedding is not a linear layer"}  # a norm has no matrix


def test_include_and_exclude_are_globs_over_dotted_names():
    assert list(find_sites(model(), ("a", "block.*"), ("*.o",)).sites) == ["a", "block.q"]
    found = reasons(model(), ("a", "block.*"), ("*.o",))
    assert found["b"] == "not in compress.include"
    assert found["block.o"] == "excluded by '*.o'"


@pytest.mark.parametrize("other", ["a", "emb"])
def test_a_shared_weight_stays_in_every_layer_that_uses_it(other):
    # Factored in one of them, the factors would come on top of the matrix that the other still needs.
    net = nn.ModuleDict({"emb": nn.Embedding(9, 4), "a": nn.Linear(4, 9), "head": nn.Linear(4, 9)})
    net["b"] = nn.Linear(4, 4)
    net["head"].weight = net[other].weight
    found = find_sites(net, ("*",), ())
    assert "head" not in found.sites
    assert other not in found.sites
    assert reasons(net)["head"] == f"shares its weight with '{other}'"


def test_one_module_under_two_names_is_one_site():
    net = nn.ModuleDict({"a": nn.Linear(4, 4)})
    net["again"] = net["a"]
    assert list(find_sites(net, ("*",), ()).sites) == ["a"]


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
