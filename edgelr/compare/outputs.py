"""A comparison as a table, as Markdown for a pull request, and as JUnit XML for a CI server."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgelr import __version__
from edgelr.compare.check import Comparison
from edgelr.compare.explain import moved_lines
from edgelr.compare.rows import Row, accuracy
from edgelr.compare.sides import Side
from edgelr.device.host import describe_host, host_fingerprint
from edgelr.terminal import finite

HEADING = ("quantity", "candidate / base", "interval", "noise floor", "limit", "")


def document(found: Comparison, base: Side, candidate: Side, device: str) -> dict[str, Any]:
    """What ``--json`` prints.

    Args:
        found: The comparison.
        base: One side.
        candidate: The other.
        device: Name of the profile.
    """
    sides = {side.name: {"path": str(side.path), "bytes": side.bytes} for side in (base, candidate)}
    fields = asdict(found)
    del fields["measured"]  # thousands of times; the picture shows them
    return {
        "edgelr": 1,
        **fields,
        "device": device,
        "sides": sides,
        "accuracy": accuracy(base, candidate),
        "host": {**describe_host(), **found.host},
    }


def rows(found: Comparison) -> list[tuple[str, ...]]:
    """The comparison's rows as text, in the columns of ``HEADING``."""
    return [_cells(row) for row in found.rows]


def summary(found: Comparison, device: str) -> str:
    """One sentence."""
    change = f"{found.rows[0].ratio - 1:+.1%}"
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
    """One line of JSON for a file of past comparisons: ratios, the machine and versions, never a time.

    Args:
        found: The comparison.
        base: One side.
        candidate: The other.
        device: Name of the profile.
        when: Date and time, ISO 8601.
    """
    host = describe_host()
    line = {
        "when": when,
        "host": host_fingerprint(),
        "device": device,
        "outcome": found.outcome,
        **{side.name: str(side.path) for side in (base, candidate)},
        "ratios": {row.quantity: round(row.ratio, 5) for row in found.rows},
        "versions": {"edgelr": __version__, **{name: str(host[name]) for name in ("onnxruntime", "python")}},
        "restarts": found.restarts,
    }
    return json.dumps(finite(line))


def details(found: Comparison) -> list[str]:
    """Lines below the table: times of today, what grew, what moved, and what else to know."""
    today = [
        f"{name}: base {before:.3g} ms, candidate {after:.3g} ms, here and today"
        for name, (before, after) in {"p50": found.p50_ms, "p90": found.p90_ms}.items()
    ]
    if None not in found.p90_bound_ms:
        at_most = " and ".join(f"{bound:.3g} ms" for bound in found.p90_bound_ms)
        today[1] += f"; 99 % sure: at most {at_most}"
    else:
        today[1] += "; too few calls to be sure"
    grew = [f"grown: {name}: {before:.3f} ms a call, now {after:.3f}" for name, before, after in found.grown]
    moved = [f"moved: {words}" for words in moved_lines(found.moved)]
    return [*today, *grew, *moved, *(f"note: {note}" for note in found.notes)]


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
        *(f"- {line}" for line in details(found)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def junit(found: Comparison, base: Side, candidate: Side, device: str, when: str) -> str:
    """JUnit XML: a test case for every quantity with a limit; what is not sure is skipped.

    It has what the strictest schema of it (Ant's) asks for, so that every server reads it.

    Args:
        found: The comparison.
        base: One side.
        candidate: The other.
        device: Name of the profile.
        when: Date and time, ISO 8601.
    """
    limited = [row for row in found.rows if row.outcome is not None]
    outcomes = [row.outcome for row in limited]
    suite = ET.Element(
        "testsuite",
        id="0",
        package="edgelr",
        name=f"edgelr compare on {device}",
        timestamp=when[:19],  # no time zone
        hostname="localhost",
        tests=str(len(limited)),
        failures=str(outcomes.count("regression")),
        errors="0",
        skipped=str(outcomes.count("inconclusive")),
        time=f"{found.seconds:.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in {"host": host_fingerprint(), "restarts": str(found.restarts)}.items():
        ET.SubElement(properties, "property", name=name, value=value)
    for row in limited:
        case = ET.SubElement(suite, "testcase", classname=f"{candidate.path}", name=row.quantity, time="0")
        message = f"{_ratio(row)} of {base.path}, limit {_limit(row)}"
        if row.outcome == "regression":
            ET.SubElement(case, "failure", message=message, type="regression").text = summary(found, device)
        elif row.outcome == "inconclusive":
            ET.SubElement(case, "skipped", message=message)
    ET.SubElement(suite, "system-out").text = "\n".join([summary(found, device), *details(found)])
    ET.SubElement(suite, "system-err")
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    ends: Sequence[float | None] = (row.low, row.high)
    interval = " to ".join("?" if end is None else f"×{end:.3f}" for end in ends)
    return (
        row.quantity,
        _ratio(row),
        "exact" if row.noise is None else interval,
        "-" if row.noise is None else f"{row.noise:.1%}",
        _limit(row),
        row.outcome or "",
    )


def _ratio(row: Row) -> str:
    return f"×{row.ratio:.3f}"


def _limit(row: Row) -> str:
    return "-" if row.bound is None else f"×{row.bound:.3f}"
