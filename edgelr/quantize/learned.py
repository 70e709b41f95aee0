"""What calibration data tells about a graph, found once: accuracy control quantizes many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgelr.quantize.compensate import Rounding
from edgelr.quantize.hqq import Known
from edgelr.quantize.smooth import Smoothing
from edgelr.quantize.static import Feeds


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What is better with data.

    Attributes:
        rounding: Of 4-bit weights.
        grids: Of blocks of weights.
        smoothing: Of what int8 products read.
    """

    rounding: Rounding
    smoothing: Smoothing
    grids: Known = field(default_factory=dict)


def learn(source: Path, feeds: Sequence[Feeds]) -> Learned | None:
    """Get ready to look at calibration data, which happens when something is quantized.

    Args:
        source: The fp32 graph.
        feeds: A call an entry.

    Returns:
        None without data.
    """
    if not feeds:
        return None
    return Learned(rounding=Rounding(source, feeds), smoothing=Smoothing(source, feeds))
