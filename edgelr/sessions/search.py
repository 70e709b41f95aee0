"""A short measured search over what ONNX Runtime does to a graph when it opens it, and how its threads wait.

Some of its rewrites make some graphs slower on some hardware, such as ``SkipLayerNormFusion`` those of
transformers that come as plain operators, on x86. What is better left out is switched off in the session of
an app, by an entry of its configuration, without a change of the file.

A thread that sleeps takes longer to wake up than the small products of a decoder take, and one that never
sleeps burns a core that another session needs. In between, it looks for work a few microseconds longer.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from edgelr.timing.spinning import SPIN_US, SPINNING

ENTRY = "optimization.disable_specified_optimizers"
# Rewrites that were seen to cost time on a CPU, for transformers that are not fused already.
REWRITES = ("SkipLayerNormFusion", "MatMulScaleFusion", "GeluFusionL2", "MatMulAddFusion", "AttentionFusion")
# Longer than between two products; shorter than between an encoder and a decoder whose threads need its core.
WAITS = ("wait 50 us", "wait 100 us")
LEAST_SPEEDUP = 1.03  # less is not told from noise in the time there is

Choice = tuple[str, ...]
"""Rewrites that are switched off, and a wait; none is how ONNX Runtime opens a graph by itself."""
Times = Mapping[Choice, Sequence[float]]
"""Of each choice, its median time at every length."""


def choose_settings(
    measure: Callable[[Sequence[Choice]], Times], names: Sequence[str]
) -> tuple[Choice, Times]:
    """Find what makes a package faster: each setting alone first, then those that helped together.

    Args:
        measure: Times of some choices, taken interleaved in one run.
        names: To try, of ``REWRITES`` and ``WAITS``.

    Returns:
        The fastest choice, and the times that show it; none when no other is faster by more than noise, in a
        second run as well.
    """
    first = measure([(), *((each,) for each in names)])
    speedups = {each: speedup(first, (each,)) for each in names}
    helped = [each for each in names if speedups[each] >= LEAST_SPEEDUP]
    if not helped:
        return (), first
    fastest = sorted(helped, key=lambda each: speedups[each], reverse=True)
    rewrites = tuple(each for each in helped if each not in WAITS)
    # There is one wait at a time, and the two are too close for one run to tell which is better.
    together = [(*rewrites, wait) for wait in fastest if wait in WAITS] or [rewrites]
    choices = dict.fromkeys([(fastest[0],), *together])
    again = measure([(), *choices])  # what won among several won by luck too
    best = max(choices, key=lambda choice: speedup(again, choice))
    return (best if speedup(again, best) >= LEAST_SPEEDUP else ()), again


def speedup(times: Times, choice: Choice) -> float:
    """How much faster a choice is than none: the geometric mean over lengths.

    Args:
        times: Of this choice and of none.
        choice: Which.
    """
    logs = [math.log(before / after) for before, after in zip(times[()], times[choice], strict=True)]
    return math.exp(statistics.fmean(logs))


def names_for(threads: int) -> tuple[str, ...]:
    """What may be tried with a number of threads: a single one has nobody to wait for.

    Args:
        threads: That a session computes with.
    """
    return REWRITES if threads == 1 else (*REWRITES, *WAITS)


def entries_of(choice: Iterable[str]) -> dict[str, str]:
    """The session's configuration that carries out a choice."""
    entries = {}
    if off := [each for each in choice if each in REWRITES]:
        entries[ENTRY] = ";".join(off)
    for wait in (each for each in choice if each in WAITS):
        entries |= {SPINNING: "1", SPIN_US: wait.split()[1]}
    return entries
