"""Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out a Markdown table; figures (columns with a unit or number) are for the caller to format.

    Args:
        columns: Headings.
        rows: Cells, shown with ``str``; a bar in a cell is escaped.

    Returns:
        The table, or "" when there are no rows.
    """
    if not rows:
        return ""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
