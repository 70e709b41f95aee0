"""What ``edgelr compare`` does: open both sides, compare, say it in every form, choose the exit code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgelr.compare import outputs
from edgelr.compare.check import Comparison, check_latency
from edgelr.compare.options import limits_for, settings
from edgelr.compare.picture import comparison_picture
from edgelr.compare.protocol import Setup
from edgelr.compare.revision import build_revision, names_revision, recipe_of
from edgelr.compare.sides import Side, common_inputs, open_side
from edgelr.device.host import require, threads_used
from edgelr.device.load import find_device
from edgelr.device.schema import Device
from edgelr.errors import EdgelrError, InconclusiveError, LatencyRegressionError, UsageError
from edgelr.progress import Progress
from edgelr.recipe.compare import Compare
from edgelr.terminal import columns, failure, say
from edgelr.timing.affinity import choose_cpus
from edgelr.writing import atomic_write_text

_PATIENCE_SECONDS = 30.0  # for an answer of a process, at least


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where to write what is wanted; None where it is not.

    Attributes:
        junit: JUnit XML, for a CI server.
        svg: A picture of both distributions.
        history: JSON lines, appended to.
    """

    junit: Path | None = None
    svg: Path | None = None
    history: Path | None = None


def compare_sides(  # noqa: PLR0913 - a command line
    base: str,
    candidate: str,
    *,
    device: str,
    recipe: Path | None,
    tolerance: str | None,
    budget: str | None,
    tokens: int | None,
    audio_s: int | None,
    sizes: Mapping[str, int],
    limits: Sequence[str],
    inconclusive_ok: bool,
    files: Files,
) -> dict[str, Any]:
    """Compare two packages or ONNX files, print the result, and write it where it is wanted.

    Args:
        base: What was there before: a package, an ONNX file, or ``REVISION:RECIPE``, which is built.
        candidate: What is to replace it, likewise.
        device: Name or file of the profile to run on.
        recipe: Whose section ``compare`` counts; None takes that of a ``REVISION:RECIPE``, as it is here now.
        tolerance: Accepted slowdown, such as ``5%`` or ``0.05``; None leaves it to the recipe, as below.
        budget: Time, such as ``60s`` or ``2m``.
        tokens: Length of the text that packages are timed with.
        audio_s: Of the sound.
        sizes: Axis name -> size, for ONNX files.
        limits: ``quantity=share``: what else must not get worse by more.
        inconclusive_ok: Whether an answer that is not sure is no failure.
        files: What to write.

    Returns:
        The comparison; with an ``error`` when it is a regression, or inconclusive.

    Raises:
        UsageError: An option cannot be meant, or the sides do different things.
        EdgelrError: A side cannot be built, opened or run; it is named.
    """
    progress = Progress()
    wanted = settings(
        _recipe(candidate, base) if recipe is None else recipe,
        tolerance=tolerance,
        budget=budget,
        tokens=tokens,
        audio_s=audio_s,
        limits=limits,
    )
    profile = _timed_device(device)
    sides = _opened("base", base, profile, progress), _opened("candidate", candidate, profile, progress)
    setup = _setup(sides, profile, wanted, sizes)
    found = check_latency(setup, progress, limits=limits_for(*sides, wanted), seconds=wanted.budget_s)
    say(columns([outputs.HEADING, *outputs.rows(found)]))
    say("\n".join(outputs.details(found)))
    _write(found, sides, profile.name, files)
    result = outputs.document(found, *sides, profile.name)
    if (error := _error(found, profile.name, inconclusive_ok=inconclusive_ok)) is not None:
        return {**result, **failure(error)}
    say(outputs.summary(found, profile.name))
    return result


def _timed_device(name: str) -> Device:
    profile = find_device(name)
    if not profile.timed:
        raise UsageError(
            f"device '{profile.name}' is not timed: its evidence is {profile.evidence}, "
            f"its runner {profile.runner}",
            "take one that runs in this process, such as cpu-1t; or run edgelr compare on that machine",
        )
    require(profile)
    return profile


def _recipe(*sides: str) -> Path | None:
    """The recipe of the first side that is one of a revision, as it is here now."""
    named = (recipe_of(each) for each in sides if names_revision(each))
    return next((each for each in named if each is not None), None)


def _setup(sides: tuple[Side, Side], device: Device, wanted: Compare, sizes: Mapping[str, int]) -> Setup:
    return Setup(
        base=sides[0],
        candidate=sides[1],
        device=device,
        inputs=common_inputs(*sides, tokens=wanted.tokens, audio_s=wanted.audio_s, sizes=sizes),
        cpus=tuple(choose_cpus(threads_used(device))),
        patience_s=max(_PATIENCE_SECONDS, wanted.budget_s),
    )


def _opened(name: str, text: str, device: Device, progress: Progress) -> Side:
    path = build_revision(text, progress) if names_revision(text) else Path(text)
    return open_side(name, path, device)


def _error(found: Comparison, device: str, *, inconclusive_ok: bool) -> EdgelrError | None:
    text = outputs.summary(found, device)
    if found.outcome == "regression":
        return LatencyRegressionError(text, "see above what grew, or accept it with a higher limit")
    if found.outcome == "inconclusive" and not inconclusive_ok:
        return InconclusiveError(text, "give it a quieter machine, a longer --budget or a higher --tolerance")
    return None


def _write(found: Comparison, sides: tuple[Side, Side], device: str, files: Files) -> None:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    if files.junit is not None:
        atomic_write_text(files.junit, outputs.junit(found, *sides, device, when))
        say(f"written to {files.junit}")
    if files.svg is not None:
        atomic_write_text(files.svg, comparison_picture(found, device))
        say(f"drawn in {files.svg}")
    if files.history is not None:
        files.history.parent.mkdir(parents=True, exist_ok=True)
        with files.history.open("a", encoding="utf-8") as lines:
            lines.write(outputs.history(found, *sides, device, when) + "\n")
    if job := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(job).open("a", encoding="utf-8") as summary_file:
            summary_file.write(outputs.markdown(found, *sides, device))
