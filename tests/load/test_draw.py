from collections import Counter

import pytest

from edgelr.load.draw import Draw


def some(draw: Draw) -> list[object]:
    return [
        draw.below(10),
        draw.between(-5, 5),
        draw.pick("abcdef"),
        draw.weighted({"often": 9, "seldom": 1}),
        *(draw.below(1000) for _ in range(5)),
    ]


def test_the_same_seed_draws_the_same_on_every_machine():
    assert some(Draw("a")) == some(Draw("a")) != some(Draw("b"))
    assert some(Draw("a")) == [2, -5, "d", "often", 175, 590, 557, 970, 879]


def test_whole_numbers_are_within_their_bounds_and_reach_them():
    draw = Draw("bounds")
    assert {draw.below(4) for _ in range(200)} == {0, 1, 2, 3}
    assert {draw.between(-1, 2) for _ in range(200)} == {-1, 0, 1, 2}
    assert {draw.below(1) for _ in range(20)} == {0}
    assert {draw.between(7, 7) for _ in range(20)} == {7}


def test_each_choice_is_as_likely_as_another():
    draw = Draw("fair")
    counts = Counter(draw.pick("abcd") for _ in range(4000))
    assert set(counts) == set("abcd")
    assert all(abs(count - 1000) < 150 for count in counts.values()), counts


def test_weighted_choices_are_as_likely_as_their_shares():
    draw = Draw("weights")
    counts = Counter(draw.weighted({"a": 1, "b": 5, "never": 0, "c": 4}) for _ in range(4000))
    assert counts["never"] == 0
    assert [counts[name] / 4000 for name in "abc"] == pytest.approx([0.1, 0.5, 0.4], abs=0.03)


def test_rounding_never_leaves_a_weighted_choice_without_one():
    """Shares whose sum, taken away one by one, may not end below zero."""
    draw = Draw("rounding")
    draw._random = type("Last", (), {"random": lambda self: 1 - 2**-53})()  # type: ignore[assignment]
    assert draw.weighted(dict.fromkeys("abcdefghij", 0.1)) == "j"
