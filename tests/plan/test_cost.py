import pytest

from edgelr.artifacts import Site
from edgelr.plan.cost import cost, macs, parameters, useful_ranks, weight_bytes


def site(out: int, in_: int, calls: int = 1) -> Site:
    return Site(
        name="a", kind="linear", out=out, in_=in_, inputs="a", calls=calls, energy=1.0, sensitivity=1.0
    )


def test_parameters_and_macs():
    assert parameters(site(8, 4), None) == 32
    assert parameters(site(8, 4), 2) == 24
    assert macs(site(8, 4, calls=3), 2) == 72


def test_int8_counts_the_scales_of_both_factors():
    assert weight_bytes(site(8, 4), None, "fp32") == 128
    assert weight_bytes(site(8, 4), None, "int8-dynamic") == 32 + 8 * 5
    assert weight_bytes(site(8, 4), 2, "int8-dynamic") == 24 + (8 + 2) * 5


@pytest.mark.parametrize(("budget", "expected"), [("parameters", 24), ("macs", 24), ("bytes", 96)])
def test_cost_is_in_the_units_of_the_budget(budget, expected):
    assert cost(site(8, 4), 2, budget, "fp32") == expected


@pytest.mark.parametrize(("out", "in_", "multiple"), [(384, 384, 16), (1536, 384, 16), (7, 5, 1), (4, 4, 16)])
def test_useful_ranks_store_less_than_dense_and_the_next_does_not(out, in_, multiple):
    ranks = useful_ranks(site(out, in_), multiple)
    dense = parameters(site(out, in_), None)
    assert all(parameters(site(out, in_), rank) < dense for rank in ranks)
    following = (ranks[-1] if ranks else 0) + multiple
    assert parameters(site(out, in_), following) >= dense
