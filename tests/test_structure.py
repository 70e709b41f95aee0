import itertools
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelr.structure import Group, Reduction, Sensitivity

sizes = st.floats(1e-6, 1e6)


@st.composite
def sensitivities(draw: st.DrawFn) -> Sensitivity:
    """Points that rise in both, as the survey makes them."""
    energies = sorted(set(draw(st.lists(sizes, min_size=1, max_size=4))))
    changes = sorted(draw(st.lists(sizes, min_size=len(energies), max_size=len(energies))))
    return Sensitivity(points=tuple(zip(energies, changes, strict=True)))


@given(sensitivities())
def test_the_curve_goes_through_its_points(found: Sensitivity) -> None:
    for energy, change in found.points:
        assert found.change(energy) == pytest.approx(change)


@given(sensitivities(), st.lists(sizes, min_size=2, max_size=6))
def test_dropping_more_never_costs_less(found: Sensitivity, energies: list[float]) -> None:
    changes = [found.change(energy) for energy in sorted(energies)]
    assert all(less <= more * (1 + 1e-9) for less, more in itertools.pairwise(changes))


@given(sensitivities(), st.floats(1e-3, 1))
def test_beyond_the_points_it_is_proportional(found: Sensitivity, share: float) -> None:
    (low, least), (high, most) = found.points[0], found.points[-1]
    assert found.change(low * share) == pytest.approx(least * share)
    assert found.change(high / share) == pytest.approx(most / share)


def test_between_two_points_it_is_the_power_law_through_them() -> None:
    found = Sensitivity(points=((1.0, 2.0), (100.0, 8.0)))
    assert found.change(10.0) == pytest.approx(4.0)


@pytest.mark.parametrize("points", [(), ((1.0, 2.0),)])
def test_dropping_nothing_costs_nothing(points: tuple[tuple[float, float], ...]) -> None:
    assert Sensitivity(points=points).change(0.0) == 0
    assert Sensitivity(points=points).change(-1e-9) == 0, "rounding of a spectrum's tail"


def test_without_points_nothing_costs_anything() -> None:
    assert Sensitivity(points=()).change(5.0) == 0
    assert Sensitivity(points=()).slope == 0


def test_the_slope_is_that_of_the_middle_point() -> None:
    assert Sensitivity(points=((4.0, 2.0),)).slope == 0.5
    assert Sensitivity(points=((1.0, 1.0), (2.0, 6.0), (3.0, 30.0))).slope == 3.0


def test_a_group_is_called_by_its_form_and_first_site() -> None:
    none = Sensitivity(points=())
    group = Group(form="joint", sites=("a.q", "a.k"), heads=1, head_size=0, energy=0.0, sensitivity=none)
    assert group.name == "joint:a.q"


def test_a_reduction_is_a_value() -> None:
    one, same = (Reduction(form="query-key", sites=("q", "k"), rank=2, heads=4) for _ in range(2))
    assert len({one, same}) == 1
    with pytest.raises(FrozenInstanceError):
        one.rank = 3  # type: ignore[misc]
