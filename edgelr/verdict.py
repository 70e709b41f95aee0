"""What validation found: rows for the report, each with the variant and the device that it is of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgelr.placement.fallback import FallbackRow


@dataclass(frozen=True, kw_only=True)
class AccuracyRow:
    """One metric of one variant on one device, with a 95 % bootstrap interval over ``examples``."""

    variant: str
    device: str
    metric: str
    value: float
    ci95: tuple[float, float]
    examples: int


@dataclass(frozen=True, kw_only=True)
class LatencyRow:
    """Latency of one variant on one device at one input shape; times in milliseconds over ``runs`` calls.

    A translation also has ``tokens_per_s``, tokens written a second, and ``first_token_ms``, the time until
    the first of them; a transcript its real-time factor ``rtf``, time a second of sound, and the times of its
    parts. All are medians, and None for everything else.
    """

    variant: str
    device: str
    evidence: str
    shape: str
    p50_ms: float
    p90_ms: float
    p99_ms: float
    runs: int
    peak_bytes: int
    threads: int
    tokens_per_s: float | None = None
    first_token_ms: float | None = None
    rtf: float | None = None
    features_ms: float | None = None
    encoder_ms: float | None = None
    decoder_ms: float | None = None

    def figures(self) -> dict[str, Any]:
        """The row as a JSON object, without what its task does not have."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class PlacementRow:
    """How many nodes of a variant's graphs one provider of a device takes.

    ``macs_share`` is its share of the multiply-accumulates, None where there are none; ``partitions`` the
    parts of the graphs that it gets, None for the CPU, which gets the rest.
    """

    variant: str
    device: str
    provider: str
    nodes: int
    share: float
    evidence: str
    macs_share: float | None = None
    partitions: int | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceRow:
    """What was done on one device, and so what is known of it.

    ``variant`` is the package that it takes, the candidate or a variant of it; ``placed`` is by whom:
    ``recorded`` by ONNX Runtime, by the provider's ``rules``, or not at all; ``agreement`` is how far that
    package is from one CPU core, in words, None where that was not looked at.
    """

    device: str
    title: str
    variant: str
    evidence: str
    scored: bool
    timed: bool
    placed: Literal["recorded", "rules"] | None
    agreement: str | None


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """One gate of the recipe and what was measured for it."""

    gate: str
    limit: float
    value: float
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What validation found: rows for the report, and whether every gate passed."""

    folder: Path
    passed: bool
    accuracy: tuple[AccuracyRow, ...]
    latency: tuple[LatencyRow, ...]
    placement: tuple[PlacementRow, ...]
    gates: tuple[GateRow, ...]
    sizes: dict[str, int]
    notes: tuple[str, ...]
    fallbacks: tuple[FallbackRow, ...] = ()
    devices: tuple[DeviceRow, ...] = ()
