from dataclasses import replace

import pytest

from edgelr.lowrank.conv_cost import conv_macs, conv_parameters
from edgelr.plan.cost import Stored, cost, dense_shapes, macs, parameters, shapes, weight_bytes
from edgelr.structure import Form, Reduction, Sensitivity, Site


def site(name: str, out: int, in_: int) -> Site:
    none = Sensitivity(points=())
    return Site(name=name, kind="linear", out=out, in_=in_, inputs="x", calls=1, energy=1.0, sensitivity=none)


# q, k and v have four heads of two channels; the output is wider than they are.
SITES = {
    name: site(name, out, in_) for name, out, in_ in (("q", 8, 6), ("k", 8, 6), ("v", 8, 6), ("o", 10, 8))
}


def size(matrices: list[tuple[int, int]]) -> int:
    return sum(rows * columns for rows, columns in matrices)


CASES: list[tuple[Form, tuple[str, ...], int, int, list[tuple[int, int]]]] = [
    ("low-rank", ("q",), 3, 1, [(3, 6), (8, 3)]),
    ("joint", ("q", "k", "v"), 3, 1, [(3, 6), (24, 3)]),
    ("query-key", ("q", "k"), 1, 4, [(4, 6), (4, 6)]),
    ("value-output", ("v", "o"), 1, 4, [(4, 6), (10, 4)]),
]


@pytest.mark.parametrize(("form", "names", "rank", "heads", "expected"), CASES)
def test_the_matrices_of_each_form(form, names, rank, heads, expected):
    reduction = Reduction(form=form, sites=names, rank=rank, heads=heads)
    stored = shapes(reduction, SITES, pivoted=False)
    assert [(matrix.rows, matrix.columns) for matrix in stored] == expected
    assert {(matrix.calls, matrix.scales == matrix.rows) for matrix in stored} == {(1, True)}
    assert parameters(shapes(reduction, SITES, pivoted=False)) < parameters(
        dense_shapes([SITES[name] for name in names])
    )


@pytest.mark.parametrize(("form", "names", "rank", "heads", "expected"), CASES)
def test_pivoting_saves_the_square_of_the_rank_of_factors_whose_channels_are_free(
    form, names, rank, heads, expected
):
    reduction = Reduction(form=form, sites=names, rank=rank, heads=heads)
    free = {name: replace(site, pivotable=True) for name, site in SITES.items()}
    saved = [size(expected) - parameters(shapes(reduction, sites, pivoted=True)) for sites in (SITES, free)]
    assert saved == [0, rank * rank if form == "low-rank" else 0]


@pytest.mark.parametrize(("form", "names", "rank", "heads", "expected"), CASES)
def test_costs_are_those_of_the_layers_that_are_made(form, names, rank, heads, expected):
    from torch import nn

    from edgelr.lowrank.reduce import restructure

    model = nn.ModuleDict({name: nn.Linear(SITES[name].in_, SITES[name].out, bias=False) for name in names})
    restructure(model, [Reduction(form=form, sites=names, rank=rank, heads=heads)])
    assert size(expected) == sum(parameter.numel() for parameter in model.parameters())


def test_dense_matrices_are_as_they_were():
    assert dense_shapes([SITES["q"], SITES["o"]]) == [Stored(8, 6, 1, 8), Stored(10, 8, 1, 10)]
    assert parameters(dense_shapes([SITES["q"], SITES["o"]])) == 128


def test_int8_counts_the_scales_of_every_matrix():
    assert weight_bytes([Stored(8, 4, 1, 8)], "fp32") == 128
    assert weight_bytes([Stored(8, 4, 1, 8)], "int8-dynamic") == 32 + 8 * 5
    assert weight_bytes([Stored(2, 4, 1, 2), Stored(8, 2, 1, 8)], "int8-dynamic") == 24 + (2 + 8) * 5
    assert weight_bytes([Stored(8, 4, 1, 0)], "int8-dynamic") == 128  # a convolution stays fp32
    assert (
        weight_bytes([Stored(64, 4, 1, 64)], "weight-int8") == 256 + 8 * 5
    )  # a scale and a zero point a block
    assert weight_bytes([Stored(64, 4, 1, 64)], "weight-int4") == 128 + 8 * 4.5
    assert weight_bytes([Stored(8, 4, 1, 0)], "weight-int4") == 128


@pytest.mark.parametrize(("budget", "expected"), [("parameters", 24), ("macs", 72), ("bytes", 96)])
def test_cost_is_in_the_units_of_the_budget(budget, expected):
    stored = [Stored(2, 4, 3, 2), Stored(8, 2, 3, 8)]
    assert cost(stored, budget, "fp32") == expected
    assert macs(stored) == 72


# --- convolutions and tables --------------------------------------------------------------------------


def conv(kernel, stride) -> Site:
    in_ = 6 * kernel[0] * (kernel[1] if len(kernel) > 1 else 1)
    return replace(site("c", 16, in_), kind="conv", calls=7, kernel=kernel, stride=stride)


@pytest.mark.parametrize(
    ("form", "kernel", "stride"),
    [("low-rank", (3,), (2,)), ("low-rank", (3, 5), (1, 2)), ("spatial", (3, 5), (1, 2))],
)
def test_a_convolution_costs_what_its_two_layers_do_at_all_positions(form, kernel, stride):
    layer, name = conv(kernel, stride), "spatial" if form == "spatial" else "channel"
    made = shapes(Reduction(form=form, sites=("c",), rank=4), {"c": layer}, pivoted=True)
    assert parameters(made) == conv_parameters(16, 6, kernel, 4, name)
    assert macs(made) == 7 * conv_macs(16, 6, kernel, 4, name, stride=stride)
    assert macs(dense_shapes([layer])) == 7 * conv_macs(16, 6, kernel, None, name, stride=stride)
    assert weight_bytes(made, "int8-dynamic") == 4 * parameters(made)  # only products of matrices are int8


@pytest.mark.parametrize(("kind", "uses"), [("embedding", 0), ("tied-embedding", 1)])
def test_a_table_is_looked_up_for_nothing_and_a_head_multiplies_by_it(kind, uses):
    table = replace(site("e", 8, 100), kind=kind, calls=2)
    made = shapes(Reduction(form="low-rank", sites=("e",), rank=3), {"e": table}, pivoted=True)
    assert parameters(made) == 3 * (8 + 100)
    assert macs(dense_shapes([table])) == uses * 2 * 800
    assert macs(made) == 2 * (3 * 8 + uses * 3 * (8 + 100))
    assert weight_bytes(made, "int8-dynamic") == parameters(made) + 5 * (8 + 100)
