"""Sizes that hardware with fixed shapes runs a package at: one graph a size, the smallest that fits is taken.

The files are the same for every size: it is given when a graph is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from edgelr.artifacts import Package
from edgelr.errors import DamagedArtifactError
from edgelr.runtime.masked_caches import PAST_MASK, room_for

SHAPES = "shapes"
"""The package's setting: lengths of texts in tokens, such as ``32,128``."""
_TEXT_AXES = ("tokens", "source")
_CACHE_AXIS = "past"


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
    entries = [entry for graph in package.graphs.values() for entry in graph.inputs]
    axes = {axis for entry in entries for axis in entry.shape if isinstance(axis, str)}
    batch = {"batch": 1} if "batch" in axes else {}
    longest = package.settings.get("max_tokens")
    if not isinstance(longest, int):
        return (batch,)
    # A cache without a mask cannot be padded. One with a mask gets a length for each of the sources: a size
    # is a graph of its own, and a translation is about as long as its source.
    masked = PAST_MASK in {entry.name for entry in entries}
    return tuple(
        batch
        | {axis: length for axis in _TEXT_AXES if axis in axes}
        | ({_CACHE_AXIS: room_for(length)} if masked else {})
        for length in sorted({longest, *(size for size in _given(package) if size < longest)})
    )


def sizes_of_axes(sizes: Iterable[Mapping[str, int]], axes: Iterable[str]) -> tuple[dict[str, int], ...]:
    """The sizes of one graph among those of all graphs of a package, each once, in their order.

    Args:
        sizes: Axis -> size, as of ``fixed_sizes``.
        axes: Of the graph.
    """
    own = set(axes)
    found = [{axis: size for axis, size in each.items() if axis in own} for each in sizes]
    return tuple(each for place, each in enumerate(found) if each not in found[:place])


def _given(package: Package) -> list[int]:
    text = str(package.settings.get(SHAPES, ""))
    sizes = text.split(",") if text else []
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise DamagedArtifactError(
            f"{package.folder / 'package.json'}: settings.{SHAPES} is {text!r}", "build the package again"
        )
    return [int(size) for size in sizes]
