"""What a command line asks of a comparison, over what the recipe's section ``compare`` says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgelr.compare.rows import DECIDING, accuracy, timed_quantities
from edgelr.compare.sides import Side
from edgelr.errors import UsageError
from edgelr.recipe.compare import LIMITED, Compare

_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min)?")


def settings(
    recipe: Path | None,
    *,
    tolerance: str | None,
    budget: str | None,
    tokens: int | None,
    audio_s: int | None,
    limits: Sequence[str],
) -> Compare:
    """The recipe's section, or its defaults, with what the command line changes.

    Args:
        recipe: The recipe whose section counts, or None.
        tolerance: Such as ``5%`` or ``0.05``; None leaves what there is, likewise below.
        budget: Such as ``60s`` or ``2m``.
        tokens: Length of the text that packages are timed with.
        audio_s: Of the sound.
        limits: Each ``quantity=share``.

    Raises:
        UsageError: The recipe has faults, or an option cannot be meant.
    """
    base = Compare()  # type: ignore[call-arg]
    if recipe is not None:
        from edgelr.recipe.load import load_recipe

        base = load_recipe(recipe).compare
    changes: dict[str, Any] = {"tokens": tokens, "audio_s": audio_s}
    changes["tolerance"] = None if tolerance is None else _share("--tolerance", tolerance)
    changes["budget_s"] = None if budget is None else _seconds(budget)
    changes["limits"] = {**base.limits, **dict(map(_limit, limits))}
    return base.model_copy(update={name: value for name, value in changes.items() if value is not None})


def limits_for(base: Side, candidate: Side, wanted: Compare) -> dict[str, float]:
    """Quantity -> share, of everything that has a limit.

    Args:
        base: One side.
        candidate: The other.
        wanted: Tolerance and limits.

    Raises:
        UsageError: There is a limit for what these sides do not have.
    """
    known = {*timed_quantities(base), "bytes", *accuracy(base, candidate)}
    if unknown := [name for name in wanted.limits if name not in known]:
        raise UsageError(
            f"there is a limit for {unknown[0]}, which base and candidate do not both have",
            f"they have {', '.join(sorted(known - {DECIDING}))}",
        )
    return {DECIDING: wanted.tolerance, **wanted.limits}


def _limit(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    if not equals or name not in LIMITED:
        raise UsageError(
            f"--limit {text}: expected NAME=SHARE",
            f"names are {', '.join(LIMITED)}; such as --limit bytes=2%; of p50 it is --tolerance",
        )
    return name, _share(f"--limit {name}", value)


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
