"""A short measured search over what ONNX Runtime does to a graph when it opens it.

Some of its rewrites make some graphs slower on some hardware, such as ``SkipLayerNormFusion`` those of
transformers that come as plain operators, on x86. What is better left out is switched off in the session of
an app, by an entry of its configuration, without a change of the file.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

ENTRY = "optimization.disable_specified_optimizers"
# Rewrites that were seen to cost time on a CPU, for transformers that are not fused already.
REWRITES = ("SkipLayerNormFusion", "MatMulScaleFusion", "GeluFusionL2", "MatMulAddFusion", "AttentionFusion")
LEAST_SPEEDUP = 1.03  # less is not told from noise in the time there is

Off = tuple[str, ...]
"""Rewrites that are switched off; none is how ONNX Runtime opens a graph by itself."""
Times = Mapping[Off, Sequence[float]]
"""Of each choice, its median time at every length."""


def choose_rewrites(
    measure: Callable[[Sequence[Off]], Times], rewrites: Sequence[str] = REWRITES
) -> tuple[Off, Times]:
    """Find which rewrites to switch off: each alone first, then those that helped together.

    Args:
        measure: Times of some choices, taken interleaved in one run.
        rewrites: To try.

    Returns:
        The fastest choice, and the times that show it; none when no other is faster by more than noise, in a
        second run as well.
    """
    first = measure([(), *((each,) for each in rewrites)])
    speedups = {each: speedup(first, (each,)) for each in rewrites}
    helped = [each for each in rewrites if speedups[each] >= LEAST_SPEEDUP]
    if not helped:
        return (), first
    choices = dict.fromkeys([(max(helped, key=lambda each: speedups[each]),), tuple(helped)])
    again = measure([(), *choices])  # what won among several won by luck too
    best = max(choices, key=lambda choice: speedup(again, choice))
    return (best if speedup(again, best) >= LEAST_SPEEDUP else ()), again


def speedup(times: Times, choice: Off) -> float:
    """How much faster a choice is than none: the geometric mean over lengths.

    Args:
        times: Of this choice and of none.
        choice: Which.
    """
    logs = [math.log(before / after) for before, after in zip(times[()], times[choice], strict=True)]
    return math.exp(statistics.fmean(logs))


def entries_of(off: Off) -> dict[str, str]:
    """The session's configuration that switches rewrites off."""
    return {ENTRY: ";".join(off)} if off else {}
