"""The section of report.md on what was done on each device, and so how much is known of it."""

from __future__ import annotations

from typing import Any

from edgelr.report.tables import table

Row = dict[str, Any]
_PLACED = {"recorded": "recorded", "rules": "by its provider's rules", None: "not told"}


def devices_markdown(document: Row) -> str:
    """Render one line a device: its evidence, and what that is evidence of.

    Args:
        document: What ``report.json`` holds.

    Returns:
        GitHub-flavored Markdown; "" where nothing was measured.
    """
    rows = [
        (
            f"{row['device']} ({row['evidence']})",
            row["title"],
            row.get("variant", "candidate"),
            "yes" if row["scored"] else "no",
            "yes" if row["timed"] else "no",
            _PLACED[row["placed"]],
            row["agreement"] or "–",
        )
        for row in document.get("devices", ())
    ]
    columns = (
        "device (evidence)",
        "what it is",
        "package",
        "scored",
        "timed",
        "placement",
        "the same files on one CPU core",
    )
    legend = (
        "Run: here, for real. Emulated: the device's own code gave these results, times would mean nothing. "
        "Static: rules of the provider, applied to the graph; nothing was run."
    )
    return f"{table(columns, rows)}\n\n{legend}" if rows else ""
