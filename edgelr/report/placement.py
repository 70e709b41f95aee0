"""The section of report.md on who runs which nodes, and why not the device's own provider."""

from __future__ import annotations

import re
from typing import Any

from edgelr.artifacts import BASELINES
from edgelr.report.tables import table

Row = dict[str, Any]
MOST = 20
"""Lines of the table of what falls back; report.json names every node."""


def placement_markdown(document: Row) -> str:
    """Render who runs how much, and what falls back for which reason.

    Args:
        document: What ``report.json`` holds.

    Returns:
        GitHub-flavored Markdown; "" where nothing is known.
    """
    rows = [
        (
            f"{row['device']} ({row['evidence']})",
            row["variant"],
            row["provider"],
            row["nodes"],
            f"{row['share']:.3f}",
            _share(row["macs_share"]),
            "–" if row["partitions"] is None else row["partitions"],
        )
        for row in document["placement"]
    ]
    columns = ("device", "variant", "provider", "nodes", "share", "share of work", "partitions")
    legend = "Share of work: of the multiply-accumulates. Partitions: parts that the graphs are cut into."
    if not rows:
        return ""
    return "\n\n".join(part for part in (table(columns, rows), legend, _fallbacks(document)) if part)


def _fallbacks(document: Row) -> str:
    """Nodes that a device's own package leaves to the CPU, those of one operator and reason in one line."""
    words = {row["device"]: row["evidence"] for row in document["placement"]}
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in document.get("fallbacks", []):
        if row["variant"] not in BASELINES:
            device = f"{row['device']} ({words[row['device']]})"
            key = (device, row["operator"], _without_names(row["reason"]))
            groups.setdefault(key, []).append(row["macs_share"] or 0.0)
    lines = [(*key, len(shares), f"{sum(shares):.4f}") for key, shares in groups.items()]
    body = table(("device", "operator", "reason", "nodes", "share of work"), lines[:MOST])
    if not body:
        return ""
    more = f"\n\n{len(lines) - MOST} more are in report.json." if len(lines) > MOST else ""
    return f"Of the device's own package, left to the CPU:\n\n{body}{more}"


def _without_names(reason: str) -> str:
    return re.sub(r" of (?!input )\S+", "", reason)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
