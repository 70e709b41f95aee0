import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelr.artifacts import Survey
from edgelr.plan.cost import dense_shapes, parameters, shapes
from edgelr.plan.options import Choices, dropped_energy, expected_change, unit_options
from edgelr.plan.ranks import Option, lower_hull
from edgelr.structure import Group, Reduction, Sensitivity, Site

Make = Callable[..., Survey]
QKV = ("q", "k", "v")


def choices(survey: Survey, *, multiple: int = 8, **changes: Any) -> Choices:
    sites = {site.name: site for site in survey.sites}

    def price(members: Sequence[Site], reduction: Reduction | None) -> float:
        found = dense_shapes(members) if reduction is None else shapes(reduction, sites, pivoted=False)
        return parameters(found)

    with np.load(survey.folder / "spectra.npz") as archive:
        spectra = {name: archive[name] for name in archive.files}
    made = Choices(survey=survey, spectra=spectra, price=price, allocation="sensitivity", multiple=multiple)
    return replace(made, **changes)


def points(options: Sequence[Option]) -> list[tuple[float, float]]:
    return [(round(option.cost, 6), round(option.loss, 6)) for option in lower_hull(options)]


def named(reductions: Sequence[Reduction]) -> list[str]:
    return [name for reduction in reductions for name in reduction.sites]


# --- units ------------------------------------------------------------------------------------------


def test_sites_that_groups_connect_are_one_unit(attention: Make) -> None:
    assert list(unit_options(choices(attention()))) == ["q", "lone"]


def test_a_site_in_no_group_is_a_unit_of_its_own(attention: Make) -> None:
    survey = attention()
    pairs = tuple(group for group in survey.groups if group.form != "joint")
    assert list(unit_options(choices(replace(survey, groups=pairs)))) == ["q", "v", "lone"]
    assert list(unit_options(choices(replace(survey, groups=())))) == ["q", "k", "v", "o", "lone"]


@pytest.mark.parametrize(("allocation", "units"), [("uniform", 5), ("energy", 3), ("gradient", 3)])
def test_heads_are_compared_only_by_measured_sensitivities(
    attention: Make, allocation: str, units: int
) -> None:
    options = unit_options(choices(attention(), allocation=allocation))
    assert len(options) == units
    forms = {each.form for found in options.values() for option in found for each in option.reductions}
    assert forms == ({"low-rank"} if allocation == "uniform" else {"low-rank", "joint"})


# --- what a unit offers -----------------------------------------------------------------------------


def alone(made: Choices, name: str) -> list[Option]:
    """Options of one site, by hand."""
    ranks = [rank for rank in range(made.multiple, 32, made.multiple) if rank * 64 < 32 * 32]
    found = [Reduction(form="low-rank", sites=(name,), rank=rank) for rank in ranks]
    return [*(option(made, each) for each in found), dense(name)]


def together(made: Choices, group: Group) -> list[Option]:
    ranks = range(8, 32, 8) if group.form == "joint" else range(2, 16, 2)
    found = [Reduction(form=group.form, sites=group.sites, rank=rank, heads=group.heads) for rank in ranks]
    priced = [option(made, each) for each in found]
    whole = dense(*group.sites)
    return [*(each for each in priced if each.cost < whole.cost), whole]


def option(made: Choices, reduction: Reduction) -> Option:
    members = [made.sites[name] for name in reduction.sites]
    return Option(
        reductions=(reduction,), cost=made.price(members, reduction), loss=expected_change(made, reduction)
    )


def dense(*names: str) -> Option:
    return Option(reductions=(), cost=32 * 32 * len(names), loss=0.0)


def covers(names: Sequence[str], groups: Sequence[Group]) -> Iterator[list[Group | str]]:
    """Every way to split sites into groups and single ones."""
    for count in range(len(groups) + 1):
        for chosen in itertools.combinations(groups, count):
            taken = [name for group in chosen for name in group.sites]
            if len(set(taken)) == len(taken):
                yield [*chosen, *(name for name in names if name not in taken)]


def sums(parts: Sequence[Sequence[Option]]) -> list[Option]:
    return [
        Option(
            reductions=tuple(each for choice in found for each in choice.reductions),
            cost=sum(choice.cost for choice in found),
            loss=sum(choice.loss for choice in found),
        )
        for found in itertools.product(*parts)
    ]


@pytest.mark.parametrize(
    "slopes",
    [
        {},
        {"qk": 0.01},
        {"vo": 0.01},
        {"qk": 0.01, "vo": 0.01},
        {"q": 5.0, "k": 5.0, "v": 5.0, "qk": 5.0, "vo": 5.0},
        {"qk": 100.0, "vo": 100.0},
    ],
    ids=str,
)
def test_a_unit_offers_every_way_to_cover_its_sites(attention: Make, slopes: dict[str, float]) -> None:
    made = choices(attention(**slopes))
    found = unit_options(made)["q"]
    every = []
    ways = list(covers(("q", "k", "v", "o"), made.survey.groups))
    assert len(ways) == 5, "all alone; joint; query-key; value-output; both pairs"
    for way in ways:
        parts = [alone(made, part) if isinstance(part, str) else together(made, part) for part in way]
        every += sums(parts)
    assert points(found) == points(every)


@pytest.mark.parametrize("slopes", [{}, {"qk": 0.01}, {"vo": 0.01}, {"qk": 0.01, "vo": 0.01}], ids=str)
def test_no_option_names_a_site_twice_and_each_costs_what_it_says(
    attention: Make, slopes: dict[str, float]
) -> None:
    made = choices(attention(**slopes))
    for unit, found in unit_options(made).items():
        names = ("q", "k", "v", "o") if unit == "q" else ("lone",)
        for each in found:
            taken = named(each.reductions)
            assert len(set(taken)) == len(taken)
            assert set(taken) <= set(names)
            parts = [option(made, reduction) for reduction in each.reductions]
            left = [name for name in names if name not in taken]
            assert each.cost == sum(part.cost for part in parts) + dense(*left).cost
            assert each.loss == pytest.approx(sum(part.loss for part in parts))


def test_a_pair_that_costs_nothing_is_in_every_choice_but_dense(attention: Make) -> None:
    *found, whole = unit_options(choices(attention(qk=1e-6, q=100.0, k=100.0)))["q"]
    assert whole.reductions == ()
    assert all("query-key" in {each.form for each in option.reductions} for option in found)


def test_only_what_is_cheaper_than_dense_is_offered(attention: Make) -> None:
    found = unit_options(choices(attention()))["lone"]
    ranks = [each.reductions[0].rank if each.reductions else None for each in found]
    assert ranks == [8, None], "rank 16 stores as much as the matrix itself"
    ranks = [
        each.reductions[0].rank if each.reductions else None
        for each in unit_options(choices(attention(), multiple=32))["lone"]
    ]
    assert ranks == [None]


# --- what a reduction loses -------------------------------------------------------------------------


def test_dropped_energy_is_the_tail_of_the_right_spectrum(attention: Make) -> None:
    made = choices(attention())
    spectra = made.spectra
    low = Reduction(form="low-rank", sites=("o",), rank=8)
    assert dropped_energy(made, low) == {"o": pytest.approx(spectra["o"][8:].sum())}
    joint = Reduction(form="joint", sites=QKV, rank=8)
    assert dropped_energy(made, joint) == {name: pytest.approx(1.2 * spectra[name][8:].sum()) for name in QKV}
    pair = Reduction(form="value-output", sites=("v", "o"), rank=6, heads=2)
    assert dropped_energy(made, pair) == {"v": pytest.approx(spectra["value-output:v"][6:].sum())}


def test_expected_change_is_by_the_sensitivities_of_the_members_or_of_the_pair(attention: Make) -> None:
    made = choices(attention(q=2.0, k=3.0, qk=7.0))
    joint = Reduction(form="joint", sites=QKV, rank=8)
    lost = dropped_energy(made, joint)
    assert expected_change(made, joint) == pytest.approx(2 * lost["q"] + 3 * lost["k"] + lost["v"])
    pair = Reduction(form="query-key", sites=("q", "k"), rank=6, heads=2)
    assert expected_change(made, pair) == pytest.approx(7 * dropped_energy(made, pair)["q"])


def test_losses_are_in_the_units_of_the_allocation(attention: Make) -> None:
    survey = attention(lone=5.0)
    losses = {}
    for allocation in ("sensitivity", "gradient", "energy"):
        (low, _) = unit_options(choices(survey, allocation=allocation))["lone"]
        losses[allocation] = low.loss
    with np.load(survey.folder / "spectra.npz") as spectra:
        energies = spectra["lone"]
    assert losses == {
        "sensitivity": pytest.approx(5 * energies[8:].sum()),
        "gradient": pytest.approx(energies[8:].sum()),
        "energy": pytest.approx(energies[8:].sum() / energies.sum()),
    }


def test_a_site_without_energy_loses_nothing(attention: Make) -> None:
    survey = attention()
    none = Sensitivity(points=())
    sites = tuple(
        replace(site, energy=0.0, sensitivity=none) if site.name == "lone" else site for site in survey.sites
    )
    made = choices(replace(survey, sites=sites))
    silent = {**made.spectra, "lone": np.zeros(32)}
    for allocation in ("sensitivity", "gradient", "energy"):
        found = unit_options(replace(made, spectra=silent, allocation=allocation))["lone"]  # type: ignore[arg-type]
        assert {each.loss for each in found} == {0.0}


# --- other kinds of sites ---------------------------------------------------------------------------


def of_one(tmp_path: Path, group: Group | None = None, **changes: Any) -> Survey:
    """A survey of one site."""
    spectra = {"s": np.linspace(2, 0.01, 24)}
    if group is not None:
        spectra[group.name] = np.linspace(3, 0.01, 12)
    np.savez(tmp_path / "spectra.npz", **spectra)
    energy, slope = float(spectra["s"].sum()), Sensitivity(points=((1.0, 1.0),))
    site = Site(
        name="s", kind="linear", out=24, in_=36, inputs="s", calls=1, energy=energy, sensitivity=slope
    )
    groups = () if group is None else (group,)
    return Survey(
        folder=tmp_path,
        sites=(replace(site, **changes),),
        groups=groups,
        skipped=(),
        tokens=9,
        parameters=999,
    )


def test_a_convolution_has_both_forms_and_the_better_one_is_taken(tmp_path: Path) -> None:
    cheap = Sensitivity(points=((1.0, 0.01),))
    spatial = Group(form="spatial", sites=("s",), heads=1, head_size=0, energy=18.0, sensitivity=cheap)
    survey = of_one(tmp_path, spatial, kind="conv", kernel=(3, 3), stride=(1, 1))
    made = choices(survey, multiple=2)
    (found,) = unit_options(made).values()
    assert {each.form for option in found for each in option.reductions} == {"low-rank", "spatial"}
    hull = [each.form for option in lower_hull(found) for each in option.reductions]
    assert hull[1:5] == ["spatial"] * 4  # a hundredth of the change for each unit of energy
    reduction = Reduction(form="spatial", sites=("s",), rank=4)
    assert dropped_energy(made, reduction) == {"s": pytest.approx(np.linspace(3, 0.01, 12)[4:].sum())}
    assert expected_change(made, reduction) == pytest.approx(0.01 * np.linspace(3, 0.01, 12)[4:].sum())


@pytest.mark.parametrize("allocation", ["sensitivity", "gradient", "energy", "uniform"])
def test_modules_with_the_same_weight_go_along(tmp_path: Path, allocation: str) -> None:
    survey = of_one(tmp_path, kind="tied-embedding", shared=("head",))
    (found,) = unit_options(choices(survey, multiple=2, allocation=allocation)).values()
    made = [each for option in found for each in option.reductions]
    assert all(each.shared == ("head",) for each in made)
    # Energies of a tied table are shares of two things: no estimate of a change.
    assert bool(made) == (allocation != "gradient")
