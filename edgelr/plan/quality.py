"""The smallest model that loses no more than is allowed: a search over the share of parameters kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgelr.artifact_files import read_json, write_json
from edgelr.errors import DamagedArtifactError

TOLERANCE = 0.01
FILE = "share.json"


@dataclass(frozen=True, kw_only=True)
class FoundShare:
    """What was found.

    Attributes:
        share: The smallest share that holds, to ``TOLERANCE``.
        drop: What the metric loses at it.
        probes: (share, drop) of everything that was tried, in that order.
    """

    share: float
    drop: float
    probes: tuple[tuple[float, float], ...]


def shares_to_search(least: float) -> list[float]:
    """The candidates: the smallest share there is, then whole multiples of ``TOLERANCE``, up to 1.

    Args:
        least: Smallest share that can be planned.
    """
    steps = round(1 / TOLERANCE)
    above = [step / steps for step in range(1, steps + 1) if step / steps > least]
    return [min(least, 1.0), *above]


def probes_needed(least: float) -> int:
    """Probes at most."""
    return math.ceil(math.log2(len(shares_to_search(least))))


def smallest_share(drop: Callable[[float], float], max_drop: float, least: float) -> FoundShare:
    """Find the smallest share at which a metric drops at most ``max_drop``, by bisection.

    It takes the drop to fall as the share rises. Where noise breaks that near the limit, the share found
    still holds, and a smaller one may too. A share of 1 needs no probe: it is the dense model.

    Args:
        drop: Share -> what the metric loses against the dense model; NaN is too much.
        max_drop: What it may lose.
        least: Smallest share that can be planned.
    """
    shares = shares_to_search(least)
    low, high, lost = 0, len(shares) - 1, 0.0  # the answer is one of shares[low..high]; high holds
    probes = []
    while low < high:
        middle = (low + high) // 2
        found = drop(shares[middle])
        probes.append((shares[middle], found))
        if found <= max_drop:
            high, lost = middle, found
        else:
            low = middle + 1
    return FoundShare(share=shares[high], drop=lost, probes=tuple(probes))


def write_found(found: FoundShare, folder: Path) -> None:
    """Write ``share.json``."""
    write_json(folder / FILE, {**vars(found), "probes": [list(probe) for probe in found.probes]})


def read_found(folder: Path) -> FoundShare:
    """Open a folder that ``write_found`` wrote.

    Raises:
        DamagedArtifactError: share.json is missing, is not JSON, or has another layout.
    """
    document = read_json(folder / FILE)
    try:
        probes = tuple((float(share), float(lost)) for share, lost in document.pop("probes"))
        return FoundShare(probes=probes, **document)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DamagedArtifactError(
            f"{folder / FILE} does not have the layout of this version: {type(error).__name__}: {error}",
            "build the artifact again",
        ) from error
