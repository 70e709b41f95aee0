"""Session settings in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgelr.report.tables import table


def sessions_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """What variants gain by settings of their own; the latency that is reported is with them.

    Args:
        rows: As in ``report.json``.

    Returns:
        A table; "" when none were measured.
    """
    lines = [
        (
            row["device"],
            row["variant"],
            row["shape"],
            ", ".join(f"`{name}={value}`" for name, value in row["entries"].items()) or "none is faster",
            f"{row['default_ms']:.2f}",
            f"{row['tuned_ms']:.2f}",
            f"×{row['default_ms'] / row['tuned_ms']:.2f}",
        )
        for row in rows
    ]
    heading = ("device", "variant", "shape", "settings", "p50 ms, default", "p50 ms, tuned", "faster by")
    return table(heading, lines) if lines else ""
