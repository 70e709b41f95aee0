"""Session settings as measured: what flows from the stage sessions to validate, report and the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """Session settings that make a variant fastest on a device: medians at one input shape, interleaved.

    Without entries nothing else is faster than ONNX Runtime's own settings.
    """

    variant: str
    device: str
    shape: str
    entries: dict[str, str]
    default_ms: float
    tuned_ms: float


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """Session settings measured as best."""

    folder: Path
    rows: tuple[SessionRow, ...]

    def of(self, variant: str) -> dict[str, dict[str, str]]:
        """Device -> session setting -> value."""
        return {row.device: row.entries for row in self.rows if row.variant == variant and row.entries}
