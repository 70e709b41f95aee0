"""Which settings are chosen, by times that are made up."""

import math
from collections.abc import Callable, Sequence

import pytest

from edgelr.sessions.search import (
    ENTRY,
    REWRITES,
    WAITS,
    Choice,
    Times,
    choose_settings,
    entries_of,
    names_for,
    speedup,
)
from edgelr.timing.spinning import SPIN_US, SPINNING

NAMES = ("a", "b", "c")


def machine(cost: dict[str, float], asked: list[Sequence[Choice]]) -> Callable[[Sequence[Choice]], Times]:
    """Every rewrite that is left on costs some share of the time, at both lengths."""

    def measure(choices: Sequence[Choice]) -> Times:
        asked.append(choices)
        shares = {choice: sum(cost[each] for each in NAMES if each not in choice) for choice in choices}
        return {choice: [1.0 + share, 10.0 * (1.0 + share)] for choice, share in shares.items()}

    return measure


@pytest.mark.parametrize(
    ("cost", "off"),
    [
        ({"a": 0.0, "b": 0.0, "c": 0.0}, ()),
        ({"a": 0.5, "b": 0.0, "c": -0.2}, ("a",)),
        ({"a": 0.2, "b": 0.4, "c": 0.0}, ("a", "b")),
        ({"a": 0.01, "b": 0.01, "c": 0.01}, ()),
    ],
)
def test_what_costs_time_is_off(cost: dict[str, float], off: Choice) -> None:
    found, times = choose_settings(machine(cost, []), NAMES)
    assert found == off
    assert off in times
    assert speedup(times, off) >= 1.0


def test_a_second_run_has_to_confirm_it() -> None:
    """What wins among several wins by luck too."""
    asked: list[Sequence[Choice]] = []

    def measure(choices: Sequence[Choice]) -> Times:
        lucky = {"a": 0.2, "b": 0.0, "c": 0.0} if not asked else dict.fromkeys(NAMES, 0.0)
        return machine(lucky, asked)(choices)

    found, _ = choose_settings(measure, NAMES)
    assert found == ()
    assert asked == [[(), ("a",), ("b",), ("c",)], [(), ("a",)]]


def test_two_that_help_apart_and_not_together() -> None:
    def measure(choices: Sequence[Choice]) -> Times:
        times = {(): 1.0, ("a",): 0.8, ("b",): 0.9, ("c",): 1.0, ("a", "b"): 1.2}
        return {choice: [times[choice]] for choice in choices}

    assert choose_settings(measure, NAMES)[0] == ("a",)


def test_lengths_count_alike() -> None:
    times = {(): [1.0, 100.0], ("a",): [0.5, 200.0]}
    assert speedup(times, ("a",)) == pytest.approx(1.0)


def test_there_is_one_wait_at_a_time() -> None:
    gains = {"a": 0.9, WAITS[0]: 0.8, WAITS[1]: 0.7}
    asked: list[Sequence[Choice]] = []

    def measure(choices: Sequence[Choice]) -> Times:
        asked.append(choices)
        return {choice: [math.prod(gains[each] for each in choice)] for choice in choices}

    found, _ = choose_settings(measure, tuple(gains))
    assert found == ("a", WAITS[1])
    assert asked[1] == [(), (WAITS[1],), ("a", WAITS[1]), ("a", WAITS[0])]


def test_a_single_thread_has_nobody_to_wait_for() -> None:
    assert names_for(1) == REWRITES
    assert set(names_for(2)) - set(names_for(1)) == set(WAITS)


def test_entries_are_those_of_onnx_runtime() -> None:
    assert entries_of(()) == {}
    assert entries_of(REWRITES[:2]) == {ENTRY: ";".join(REWRITES[:2])}
    assert entries_of((REWRITES[0], WAITS[1])) == {ENTRY: REWRITES[0], SPINNING: "1", SPIN_US: "100"}
