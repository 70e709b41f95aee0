"""What ``edgelr compare`` does: read the limits, compare, say it in every form, choose the exit code."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgelr.compare import outputs
from edgelr.compare.check import DECIDING, Comparison, check_latency
from edgelr.compare.protocol import QUANTITIES
from edgelr.compare.sides import Side, common_inputs, open_side
from edgelr.device.load import find_device
from edgelr.errors import EdgelrError, InconclusiveError, LatencyRegressionError, UsageError
from edgelr.progress import Progress
from edgelr.terminal import columns, failure, say
from edgelr.writing import atomic_write_text

# Of p50 the tolerance is the limit.
LIMITED = (*(name for name in QUANTITIES if name != DECIDING), "bytes")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min)?")


def compare_sides(  # noqa: PLR0913 - a command line
    base: Path,
    candidate: Path,
    *,
    device: str,
    tolerance: str,
    budget: str,
    tokens: int,
    sizes: Mapping[str, int],
    limits: Sequence[str],
    inconclusive_ok: bool,
    junit: Path | None,
    history: Path | None,
) -> dict[str, Any]:
    """Compare two packages or ONNX files, print the result, and write it where it is wanted.

    Args:
        base: What was there before.
        candidate: What is to replace it.
        device: Name or file of the profile to run on.
        tolerance: Accepted slowdown, such as ``5%`` or ``0.05``.
        budget: Time, such as ``60s`` or ``2m``.
        tokens: Length of the text that packages are timed with.
        sizes: Axis name -> size, for ONNX files.
        limits: ``quantity=share``: what else must not grow by more.
        inconclusive_ok: Whether an answer that is not sure is no failure.
        junit: Where to write JUnit XML.
        history: A file of JSON lines to append to.

    Returns:
        The comparison; with an ``error`` when it is a regression, or inconclusive.

    Raises:
        UsageError: An option cannot be meant, or the sides do different things.
        EdgelrError: A side cannot be opened or run; it is named.
    """
    asked = _limits(tolerance, limits)
    seconds = _seconds(budget)
    profile = find_device(device)
    sides = open_side("base", base), open_side("candidate", candidate)
    inputs = common_inputs(*sides, tokens, sizes)
    found = check_latency(*sides, profile, inputs, Progress(), limits=asked, seconds=seconds)
    say(columns([outputs.HEADING, *outputs.rows(found)]))
    for metric, values in outputs.accuracy(*sides).items():
        say(f"accuracy: {metric}: base {values[0]:.4f}, candidate {values[1]:.4f}, as validated")
    for line in outputs.grown(found):
        say(f"grown: {line}")
    for note in found.notes:
        say(f"note: {note}")
    _write(found, sides, profile.name, junit, history)
    result = outputs.document(found, *sides, profile.name)
    if (error := _error(found, profile.name, inconclusive_ok=inconclusive_ok)) is not None:
        return {**result, **failure(error)}
    say(outputs.summary(found, profile.name))
    return result


def _error(found: Comparison, device: str, *, inconclusive_ok: bool) -> EdgelrError | None:
    text = outputs.summary(found, device)
    if found.outcome == "regression":
        return LatencyRegressionError(text, "see above what grew, or accept it with a higher limit")
    if found.outcome == "inconclusive" and not inconclusive_ok:
        return InconclusiveError(text, "give it a quieter machine, a longer --budget or a higher --tolerance")
    return None


def _write(
    found: Comparison, sides: tuple[Side, Side], device: str, junit: Path | None, history: Path | None
) -> None:
    if junit is not None:
        atomic_write_text(junit, outputs.junit(found, *sides, device))
        say(f"written to {junit}")
    if history is not None:
        history.parent.mkdir(parents=True, exist_ok=True)
        when = datetime.now(UTC).isoformat(timespec="seconds")
        with history.open("a", encoding="utf-8") as lines:
            lines.write(outputs.history(found, *sides, device, when) + "\n")
    if job := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(job).open("a", encoding="utf-8") as summary_file:
            summary_file.write(outputs.markdown(found, *sides, device))


def _limits(tolerance: str, others: Sequence[str]) -> dict[str, float]:
    found = {DECIDING: _share("--tolerance", tolerance)}
    for text in others:
        name, equals, value = text.partition("=")
        if not equals or name not in LIMITED:
            raise UsageError(
                f"--limit {text}: expected NAME=SHARE",
                f"names are {', '.join(LIMITED)}; such as --limit bytes=2%; of p50 it is --tolerance",
            )
        found[name] = _share(f"--limit {name}", value)
    return found


def _share(option: str, text: str) -> float:
    match = _SHARE.fullmatch(text.strip())
    value = 0.0 if match is None else float(match[1]) / (100 if match[2] else 1)
    if not 0 < value < 1:
        raise UsageError(f"{option}: {text!r} is no share above 0 and below 100 %", "such as 5% or 0.05")
    return value


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text.strip())
    value = 0.0 if match is None else float(match[1]) * (60 if (match[2] or "s").startswith("m") else 1)
    if not 1 <= value <= 3600:
        raise UsageError(f"--budget: {text!r} is no time from 1 s to 60 m", "such as 60s or 2m")
    return value
