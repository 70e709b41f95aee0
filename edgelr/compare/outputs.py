"""A comparison as a table, as Markdown for a pull request, and as JUnit XML for a CI server."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgelr.compare.check import Comparison, Row
from edgelr.compare.sides import Side
from edgelr.device.host import describe_host, host_fingerprint, host_state

HEADING = ("quantity", "candidate / base", "99 % interval", "noise floor", "limit", "")


def document(found: Comparison, base: Side, candidate: Side, device: str) -> dict[str, Any]:
    """What ``--json`` prints.

    Args:
        found: The comparison.
        base: One side.
        candidate: The other.
        device: Name of the profile.
    """
    sides = {side.name: {"path": str(side.path), "bytes": side.bytes} for side in (base, candidate)}
    host = {**describe_host(), **host_state()}
    return {
        **asdict(found),
        "device": device,
        "sides": sides,
        "accuracy": accuracy(base, candidate),
        "host": host,
    }


def accuracy(base: Side, candidate: Side) -> dict[str, tuple[float, float]]:
    """Metric -> base and candidate, as both packages say they were validated; no file is run for it."""
    if base.package is None or candidate.package is None:
        return {}
    one, other = base.package.accuracy, candidate.package.accuracy
    return {metric: (one[metric], other[metric]) for metric in one if metric in other}


def rows(found: Comparison) -> list[tuple[str, ...]]:
    """The comparison's rows as text, in the columns of ``HEADING``."""
    return [_cells(row) for row in found.rows]


def summary(found: Comparison, device: str) -> str:
    """One sentence."""
    row = found.rows[0]
    change = f"{row.ratio - 1:+.1%}"
    match found.outcome:
        case "pass":
            text = f"pass: {change} on {device}, within what is accepted"
        case "regression":
            worse = ", ".join(each.quantity for each in found.rows if each.outcome == "regression")
            seen = ", seen again in fresh restarts" if found.confirmed else ""
            text = f"regression: {worse}; p50 {change} on {device}{seen}"
        case "inconclusive":
            more = f"; about {found.more_seconds:.0f} s more might tell" if found.more_seconds else ""
            text = f"inconclusive: {change} on {device}, with too much noise to be sure{more}"
    restarts = f"{found.restarts} restart{'s' if found.restarts != 1 else ''}"
    return f"{text} ({restarts}, {found.seconds:.0f} s)"


def history(found: Comparison, base: Side, candidate: Side, device: str, when: str) -> str:
    """One line of JSON for a file of past comparisons: ratios and the machine, never a time.

    Args:
        found: The comparison.
        base: One side.
        candidate: The other.
        device: Name of the profile.
        when: Date and time, ISO 8601.
    """
    ratios = {row.quantity: round(row.ratio, 5) for row in found.rows}
    line = {"when": when, "host": host_fingerprint(), "device": device, "outcome": found.outcome}
    sides = {side.name: str(side.path) for side in (base, candidate)}
    return json.dumps({**line, **sides, "ratios": ratios, "restarts": found.restarts})


def grown(found: Comparison) -> list[str]:
    """A line for each kind of operator that takes longer."""
    return [f"{name}: {before:.3f} ms a call, now {after:.3f}" for name, before, after in found.grown]


def markdown(found: Comparison, base: Side, candidate: Side, device: str) -> str:
    """A section for a pull request or a job's summary."""
    lines = [
        f"### Latency of `{candidate.path}` against `{base.path}`",
        "",
        f"**{summary(found, device)}**",
        "",
        "| " + " | ".join(HEADING) + " |",
        "|---" * len(HEADING) + "|",
        *("| " + " | ".join(cells) + " |" for cells in rows(found)),
        "",
        *(f"- {line}" for line in (*grown(found), *found.notes)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def junit(found: Comparison, base: Side, candidate: Side, device: str) -> str:
    """JUnit XML: a test case for every quantity with a limit; what is not sure is skipped.

    Args:
        found: The comparison.
        base: One side.
        candidate: The other.
        device: Name of the profile.
    """
    limited = [row for row in found.rows if row.outcome is not None]
    outcomes = [row.outcome for row in limited]
    suite = ET.Element(
        "testsuite",
        name=f"edgelr compare on {device}",
        tests=str(len(limited)),
        failures=str(outcomes.count("regression")),
        errors="0",
        skipped=str(outcomes.count("inconclusive")),
        time=f"{found.seconds:.3f}",
    )
    for row in limited:
        case = ET.SubElement(suite, "testcase", classname=f"{candidate.path}", name=row.quantity, time="0")
        message = f"{_ratio(row)} of {base.path}, limit {_limit(row)}"
        if row.outcome == "regression":
            ET.SubElement(case, "failure", message=message, type="regression").text = summary(found, device)
        elif row.outcome == "inconclusive":
            ET.SubElement(case, "skipped", message=message)
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    ends: Sequence[float | None] = (row.low, row.high)
    interval = " to ".join("?" if end is None else f"×{end:.3f}" for end in ends)
    exact = row.quantity == "bytes"
    return (
        row.quantity,
        _ratio(row),
        "exact" if exact else interval,
        "-" if exact else f"{row.noise:.1%}",
        _limit(row),
        row.outcome or "",
    )


def _ratio(row: Row) -> str:
    return f"×{row.ratio:.3f}"


def _limit(row: Row) -> str:
    return "-" if row.limit is None else f"×{1 + row.limit:.3f}"
