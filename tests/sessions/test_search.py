"""Which rewrites are switched off, by times that are made up."""

from collections.abc import Callable, Sequence

import pytest

from edgelr.sessions.search import ENTRY, Off, Times, choose_rewrites, entries_of, speedup

REWRITES = ("a", "b", "c")


def machine(cost: dict[str, float], asked: list[Sequence[Off]]) -> Callable[[Sequence[Off]], Times]:
    """Every rewrite that is left on costs some share of the time, at both lengths."""

    def measure(choices: Sequence[Off]) -> Times:
        asked.append(choices)
        shares = {choice: sum(cost[each] for each in REWRITES if each not in choice) for choice in choices}
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
def test_what_costs_time_is_off(cost: dict[str, float], off: Off) -> None:
    found, times = choose_rewrites(machine(cost, []), REWRITES)
    assert found == off
    assert off in times
    assert speedup(times, off) >= 1.0


def test_a_second_run_has_to_confirm_it() -> None:
    """What wins among several wins by luck too."""
    asked: list[Sequence[Off]] = []

    def measure(choices: Sequence[Off]) -> Times:
        lucky = {"a": 0.2, "b": 0.0, "c": 0.0} if not asked else dict.fromkeys(REWRITES, 0.0)
        return machine(lucky, asked)(choices)

    found, _ = choose_rewrites(measure, REWRITES)
    assert found == ()
    assert asked == [[(), ("a",), ("b",), ("c",)], [(), ("a",)]]


def test_two_that_help_apart_and_not_together() -> None:
    def measure(choices: Sequence[Off]) -> Times:
        times = {(): 1.0, ("a",): 0.8, ("b",): 0.9, ("c",): 1.0, ("a", "b"): 1.2}
        return {choice: [times[choice]] for choice in choices}

    assert choose_rewrites(measure, REWRITES)[0] == ("a",)


def test_lengths_count_alike() -> None:
    times = {(): [1.0, 100.0], ("a",): [0.5, 200.0]}
    assert speedup(times, ("a",)) == pytest.approx(1.0)


def test_entries_are_those_of_onnx_runtime() -> None:
    assert entries_of(()) == {}
    assert entries_of(("a", "b")) == {ENTRY: "a;b"}
