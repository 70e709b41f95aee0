"""What a reader should know besides the ratios: which operators grew, which nodes moved, how the host was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgelr.compare.protocol import Restart, Setup, profile_operators
from edgelr.compare.sides import same_content

_NOTICED = 0.01  # of the base's time: what an operator has to grow by to be named
_CLOCK_MOVED = 0.05
_NAMED = 5  # nodes that are named one by one


def grown_operators(setup: Setup) -> tuple[tuple[str, float, float], ...]:
    """Which kinds of operators take longer in the candidate, by ONNX Runtime's profiles of both.

    Args:
        setup: What was timed.

    Returns:
        Name, milliseconds a call of base and of candidate; those that grew by a hundredth of the whole, the
        most grown first.

    Raises:
        EdgelrError: A side fails; it is named.
    """
    before, after = (profile_operators(setup, side) for side in (setup.base, setup.candidate))
    least = _NOTICED * sum(before.values())
    grown = [(name, before.get(name, 0.0), after[name]) for name in after]
    worse = [each for each in grown if each[2] - each[1] > least]
    return tuple(sorted(worse, key=lambda each: each[1] - each[2]))


def moved_nodes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Nodes of both sides that another provider takes: name, provider of base and of candidate.

    Args:
        before: Node -> provider, of the base.
        after: Likewise of the candidate.
    """
    return tuple(
        (node, before[node], after[node]) for node in before if node in after and before[node] != after[node]
    )


def host_range(restarts: Sequence[Restart]) -> dict[str, Any]:
    """What the host said of itself meanwhile: (least, most) of numbers, the texts that there were.

    Args:
        restarts: At least one.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for restart in restarts for name in restart.host):
        values = [restart.host[name] for restart in restarts if name in restart.host]
        numbers = [value for value in values if not isinstance(value, str)]
        found[name] = (min(numbers), max(numbers)) if numbers else tuple(dict.fromkeys(values))
    return found


def notes(setup: Setup, restarts: Sequence[Restart], lost: Sequence[str]) -> tuple[str, ...]:
    """What may make a reader trust the answer less.

    Args:
        setup: What was timed.
        restarts: All that were measured.
        lost: What happened to restarts that were measured again.
    """
    found = []
    if same := same_content(setup.base, setup.candidate):
        found.append(f"base and candidate are {same}: what differs is this machine's noise")
    if unsettled := sum(not each.settled for each in restarts):
        found.append(f"times had not settled after warm-up in {unsettled} of {len(restarts)} restarts")
    if setup.cpus and not all(each.pinned for each in restarts):
        found.append("processes may not be bound to cores here: they wander, which is more noise")
    low, high = host_range(restarts).get("clock_mhz", (1.0, 1.0))
    if high > low * (1 + _CLOCK_MOVED):
        found.append(f"the clock of the cores was between {low:.0f} and {high:.0f} MHz")
    found += [f"a restart was lost and measured again: {what}" for what in lost]
    return tuple(found)


def moved_lines(moved: Sequence[tuple[str, str, str]]) -> list[str]:
    """A line for each node that another provider takes, and one for how many more there are."""
    lines = [f"{node}: {before}, now {after}" for node, before, after in moved[:_NAMED]]
    more = len(moved) - _NAMED
    return [*lines, *([f"and {more} nodes more"] if more > 0 else [])]
