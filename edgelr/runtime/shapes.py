"""Sizes that hardware with fixed shapes runs a package at: one graph a size, the smallest that fits is taken.

The files are the same for every size: it is given when a graph is opened.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError

SHAPES = "shapes"
"""The package's setting: lengths of texts in tokens, such as ``32,128``."""
_TEXT_AXES = ("tokens", "source")


def shapes_setting(tokens: Sequence[int]) -> dict[str, int | str]:
    """The setting that says these lengths; none where there are none."""
    return {SHAPES: ",".join(map(str, sorted(set(tokens))))} if tokens else {}


def fixed_sizes(package: Package) -> tuple[dict[str, int], ...]:
    """Sizes of the axes of a package's graphs, smallest first; one text or sound at a time.

    Args:
        package: The longest of its texts is always among its sizes.

    Returns:
        At least one entry, axis -> size. An axis of which no size is known is in none.

    Raises:
        DamagedArtifactError: The package's setting cannot be read.
    """
    axes = {
        axis
        for graph in package.graphs.values()
        for entry in graph.inputs
        for axis in entry.shape
        if isinstance(axis, str)
    }
    choices = {"batch": [1]} if "batch" in axes else {}
    longest = package.settings.get("max_tokens")
    if isinstance(longest, int):
        lengths = sorted({longest, *(size for size in _given(package) if size < longest)})
        choices |= {axis: lengths for axis in _TEXT_AXES if axis in axes}
    combined = itertools.product(*choices.values())
    return tuple(dict(zip(choices, sizes, strict=True)) for sizes in combined)


def _given(package: Package) -> list[int]:
    text = str(package.settings.get(SHAPES, ""))
    sizes = text.split(",") if text else []
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise DamagedArtifactError(
            f"{package.folder / 'package.json'}: settings.{SHAPES} is {text!r}", "build the package again"
        )
    return [int(size) for size in sizes]
