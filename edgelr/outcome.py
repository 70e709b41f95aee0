"""What a build ends with: which stages ran, and the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage of a build: its key in the store, how long it took, and whether it was reused."""

    stage: str
    key: str
    seconds: float
    reused: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a build ends with.

    Attributes:
        out: The output folder.
        passed: Whether every gate was met.
        package: The released package, None when there is none.
        document: The content of ``report.json``.
    """

    out: Path
    passed: bool
    package: Path | None
    document: dict[str, Any]
