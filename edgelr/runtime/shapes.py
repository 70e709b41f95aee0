"""Sizes that hardware with fixed shapes runs a package at: one graph a size, the smallest that fits is taken.

The files are the same for every size: it is given when a graph is opened.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError

SHAPES = "shapes"
"""The package's setting: ``tokens=32,128``, axes separated by spaces."""
_TEXT_AXES = ("tokens", "source")


def shapes_setting(shapes: Mapping[str, Sequence[int]]) -> str:
    """Write the sizes of axes as a package's setting.

    Args:
        shapes: Axis -> its sizes.
    """
    return " ".join(
        f"{axis}={','.join(map(str, sorted(set(sizes))))}" for axis, sizes in sorted(shapes.items())
    )


def fixed_sizes(package: Package) -> tuple[dict[str, int], ...]:
    """Sizes of the axes of a package's graphs, smallest first; one text or sound at a time.

    Args:
        package: Without sizes of its own, texts have its longest.

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
        choices |= {axis: [longest] for axis in _TEXT_AXES if axis in axes}
    choices |= {axis: sizes for axis, sizes in _given(package).items() if axis in axes}
    combined = itertools.product(*choices.values())
    return tuple(dict(zip(choices, sizes, strict=True)) for sizes in combined)


def _given(package: Package) -> dict[str, list[int]]:
    text = str(package.settings.get(SHAPES, ""))
    found = {}
    for part in text.split():
        axis, _, sizes = part.partition("=")
        if not axis or not all(size.isdecimal() and int(size) > 0 for size in sizes.split(",")):
            raise DamagedArtifactError(
                f"{package.folder / 'package.json'}: settings.{SHAPES} is {text!r}", "build the package again"
            )
        found[axis] = sorted(map(int, sizes.split(",")))
    return found
