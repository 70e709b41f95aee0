"""What a report says of a node that a device's provider does not take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FallbackRow:
    """One node of a variant that is left to the CPU.

    Attributes:
        variant: Of the package.
        device: Name of the profile.
        node: Its name in the graph.
        operator: Its type.
        macs_share: Of all multiply-accumulates; None where there are none.
        reason: Why the device's provider does not take it.
    """

    variant: str
    device: str
    node: str
    operator: str
    macs_share: float | None
    reason: str
