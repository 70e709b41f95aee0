"""What a graph that is open anywhere can do: the part of ONNX Runtime's session that this project calls.

Whatever opens a graph gives this, so that what uses, scores and compares packages does not know where they
run. A runner that reaches another machine (over adb or ssh) is another module that gives it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An input or output: ``type`` as ONNX Runtime says it, a size that is open as its name."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


class OpenGraph(Protocol):
    """A graph, open on a device."""

    def get_inputs(self) -> Sequence[Entry]:
        """What it reads."""
        ...

    def get_outputs(self) -> Sequence[Entry]:
        """What it gives."""
        ...

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run it once: the outputs of these names, all where None is given."""
        ...

    def get_provider_graph_assignment_info(self) -> Sequence[Any]:
        """Parts of the graph, each with ``ep_name`` and ``get_nodes()``; none where that is not known."""
        ...
