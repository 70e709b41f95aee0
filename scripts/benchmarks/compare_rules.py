"""Rules that latency checks are usually made by, on the calls of two processes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
RULES = ("threshold", "asv", "U test")


def other_rules(base: Times, candidate: Times) -> dict[str, str]:
    """What each rule says of the same calls.

    * threshold: slower when the median grew by 10 %.
    * asv: slower when the medians' 99 % intervals do not overlap, and the median grew by 10 %.
    * U test: as google/benchmark's comparison does it, over calls: slower when p < 0.05.

    Args:
        base: Times ``[calls]``.
        candidate: Likewise.
    """
    ratio = float(np.median(candidate) / np.median(base))
    apart = median_interval(candidate)[0] > median_interval(base)[1]
    found = {"threshold": ratio > 1.1, "asv": apart and ratio > 1.1, "U test": u_test(base, candidate) < 0.05}
    return {rule: "regression" if slower else "pass" for rule, slower in found.items()}


def median_interval(times: Times) -> tuple[float, float]:
    """99 % interval of the median, by order statistics."""
    half = 2.576 * math.sqrt(len(times)) / 2
    ordered = np.sort(times)
    low, high = math.floor(len(times) / 2 - half), math.ceil(len(times) / 2 + half)
    return float(ordered[max(0, low)]), float(ordered[min(len(times) - 1, high)])


def u_test(base: Times, candidate: Times) -> float:
    """One-sided p of Mann and Whitney's U test, by the normal approximation."""
    ranks = np.argsort(np.argsort(np.concatenate([base, candidate]))) + 1.0
    one, other = len(base), len(candidate)
    u = ranks[one:].sum() - other * (other + 1) / 2
    z = (u - one * other / 2) / math.sqrt(one * other * (one + other + 1) / 12)
    return 0.5 * math.erfc(z / math.sqrt(2))
