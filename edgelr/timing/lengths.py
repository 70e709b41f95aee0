"""How long the inputs are that packages are timed with."""

from __future__ import annotations

from edgelr.artifacts import Package
from edgelr.errors import UsageError
from edgelr.kinds.kind import kind_of
from edgelr.recipe.schema import Validation


def shape_text(length: int, unit: str = "tokens") -> str:
    """What a latency row calls an input of one text, or sound, of this length; or of so many rows."""
    return f"{length} {unit}" if unit == "rows" else f"1 x {length} {unit}"


def usable_lengths(package: Package, settings: Validation) -> tuple[list[int], list[str]]:
    """Lengths that a package takes, and a note on those it does not.

    Args:
        package: Any package.
        settings: The recipe's section.

    Raises:
        UsageError: It takes none of them.
        UnsupportedModelError: The package's task is unknown.
    """
    match kind_of(package).UNIT:
        case "s":
            return sorted(set(settings.audio_s)), []  # longer sounds than a window are several
        case "rows":
            return sorted(set(settings.rows)), []
        case "users":
            return [1], []  # an app asks for one
    tokens = settings.tokens
    limit = package.settings.get("max_tokens")
    fitting = [length for length in sorted(set(tokens)) if not isinstance(limit, int) or length <= limit]
    if not fitting:
        raise UsageError(
            f"validate.tokens: {', '.join(map(str, tokens))} all exceed the package's {limit} tokens",
            f"add a length of at most {limit}",
        )
    left_out = [str(length) for length in tokens if length not in fitting]
    note = f"not timed: {', '.join(left_out)} tokens; the package cuts at {limit}"
    return fitting, [note] if left_out else []
