"""One graph for each size, behind the interface of one graph with open sizes.

An input is padded with zeros to the smallest size that it fits into, which its mask says; what an output has
too much of is cut off. Rows of a batch are run one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.errors import UnsupportedModelError
from edgelr.runners.binding import Binding, run_bound
from edgelr.runners.protocol import Entry, OpenGraph
from edgelr.runtime.graph import describe_graph
from edgelr.runtime.shapes import sizes_of_axes

Array = NDArray[Any]
Sizes = Mapping[str, int]
_BATCH = "batch"


def file_entries(model: Path) -> tuple[list[Entry], list[Entry]]:
    """Inputs and outputs of an ONNX file, with the names of open axes.

    Args:
        model: The file.

    Raises:
        DamagedArtifactError: It cannot be read.
    """
    graph = describe_graph(model)
    inputs, outputs = (
        [Entry(name=each.name, type=f"tensor({each.dtype})", shape=each.shape) for each in given]
        for given in (graph.inputs, graph.outputs)
    )
    return inputs, outputs


class FixedShapes:
    """A graph on hardware that takes no open size.

    Args:
        inputs: Of the graph as it is in its file, with names of open axes.
        outputs: Likewise.
        sizes: Axis -> size, one entry a graph, smallest first.
        open_graph: Opens the graph at one of these.

    Raises:
        UnsupportedModelError: An input has an open axis of which no size is known.
    """

    def __init__(
        self,
        inputs: Sequence[Entry],
        outputs: Sequence[Entry],
        sizes: Sequence[Sizes],
        open_graph: Callable[[Sizes], OpenGraph],
    ) -> None:
        self._inputs, self._outputs, self._open = inputs, outputs, open_graph
        known = {_BATCH, *(axis for entry in sizes for axis in entry)}
        axes = {axis: entry.name for entry in inputs for axis in entry.shape if isinstance(axis, str)}
        if odd := [axis for axis in axes if axis not in known]:
            raise UnsupportedModelError(
                f"input {axes[odd[0]]} has the open axis '{odd[0]}', of which no fixed size is known",
                "this hardware takes no open axis: use another device",
            )
        self._sizes = sizes_of_axes(sizes, axes)
        # The largest at once: what cannot be opened is found out now, not at the first long text.
        self._last = len(self._sizes) - 1
        self._graphs: dict[int, OpenGraph] = {self._last: open_graph(self._sizes[-1])}

    def get_inputs(self) -> Sequence[Entry]:
        """What it reads, as in the file."""
        return self._inputs

    def get_outputs(self) -> Sequence[Entry]:
        """What it gives, as in the file."""
        return self._outputs

    def get_provider_graph_assignment_info(self) -> Sequence[Any]:
        """Of the graph at its largest size."""
        return self._graphs[len(self._sizes) - 1].get_provider_graph_assignment_info()

    def end_profiling(self) -> str:
        """The file with the profile of the graph that ran last, where one is made."""
        graph: Any = self._graphs[self._last]
        return str(graph.end_profiling())

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """Run every row of a batch at the smallest size that it fits into.

        Raises:
            UnsupportedModelError: An input is longer than the largest size.
        """
        known = {entry.name: entry for entry in self._outputs}
        wanted = [known[name] for name in (known if names is None else names)]
        batched = [entry.name for entry in self._inputs if entry.shape[:1] == (_BATCH,)]
        rows = len(feeds[batched[0]]) if batched else 1
        results = [self._row(wanted, {**feeds, **_rows(feeds, batched, row)}) for row in range(rows)]
        return [np.concatenate(parts) if rows > 1 else parts[0] for parts in zip(*results, strict=True)]

    def io_binding(self) -> Binding:
        """Inputs and outputs bound by name, as ONNX Runtime does."""
        return Binding()

    def run_with_iobinding(self, binding: Binding) -> None:
        """Run it on what is bound; bound outputs are overwritten."""
        run_bound(self, binding)

    def _row(self, wanted: Sequence[Entry], feeds: Mapping[str, Array]) -> list[Array]:
        lengths = self._lengths(feeds)
        number = next(
            (
                number
                for number, sizes in enumerate(self._sizes)
                if all(size <= sizes.get(axis, size) for axis, size in lengths.items())
            ),
            None,
        )
        if number is None:
            raise UnsupportedModelError(
                f"an input of {lengths} is longer than the largest fixed size, {dict(self._sizes[-1])}",
                "add its length to export.shapes in the recipe",
            )
        if number not in self._graphs:
            self._graphs[number] = self._open(self._sizes[number])
        self._last, sizes = number, self._sizes[number]
        padded = {entry.name: _padded(feeds[entry.name], entry, sizes) for entry in self._inputs}
        results = self._graphs[number].run([entry.name for entry in wanted], padded)
        return [_cut(result, entry, lengths) for result, entry in zip(results, wanted, strict=True)]

    def _lengths(self, feeds: Mapping[str, Array]) -> dict[str, int]:
        """Sizes of the open axes of these inputs, but the batch."""
        return {
            axis: size
            for entry in self._inputs
            for axis, size in zip(entry.shape, feeds[entry.name].shape, strict=True)
            if isinstance(axis, str) and axis != _BATCH
        }


def _rows(feeds: Mapping[str, Array], batched: Sequence[str], row: int) -> dict[str, Array]:
    return {name: feeds[name][row : row + 1] for name in batched}


def _padded(array: Array, entry: Entry, sizes: Sizes) -> Array:
    missing = [
        (0, sizes.get(axis, size) - size if isinstance(axis, str) and axis != _BATCH else 0)
        for axis, size in zip(entry.shape, array.shape, strict=True)
    ]
    return np.pad(array, missing) if any(after for _, after in missing) else array


def _cut(array: Array, entry: Entry, lengths: Mapping[str, int]) -> Array:
    return array[tuple(slice(lengths.get(axis) if isinstance(axis, str) else None) for axis in entry.shape)]
