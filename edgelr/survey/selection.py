"""Which layers a recipe selects by their names, of whatever form of model."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from edgelr.errors import UnsupportedModelError
from edgelr.structure import LeftDense


def ruled_out(name: str, include: Sequence[str], exclude: Sequence[str]) -> str | None:
    """Why globs leave a layer out, or None.

    Args:
        name: The layer.
        include: It must fit one of these.
        exclude: It must fit none of these.
    """
    if not any(fnmatch.fnmatchcase(name, glob) for glob in include):
        return "not in compress.include"
    for glob in exclude:
        if fnmatch.fnmatchcase(name, glob):
            return f"excluded by '{glob}'"
    return None


def nothing_left(
    skipped: Sequence[LeftDense], include: Sequence[str], exclude: Sequence[str]
) -> UnsupportedModelError:
    """The error for a model of which nothing is to be factored.

    Args:
        skipped: Its matrices.
        include: Globs.
        exclude: Globs.
    """
    if not skipped:
        return UnsupportedModelError(
            "the model has no layer to factor", "it has no weight matrix at all; give another model"
        )
    globs = f"include: {', '.join(include)}; exclude: {', '.join(exclude) or 'nothing'}"
    # A layer that the globs ruled out says more than an embedding that no glob could let in.
    by_glob = [entry for entry in skipped if entry.reason.startswith(("not in compress", "excluded by"))]
    example = (by_glob or skipped)[0]
    return UnsupportedModelError(
        f"the model has no layer to factor ({globs})",
        f"check compress.include and compress.exclude; '{example.name}' was left out: {example.reason}",
    )
