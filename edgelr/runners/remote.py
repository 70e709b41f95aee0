"""A graph that is open in another process, behind the interface of a session that this process opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from numpy.typing import NDArray

from edgelr.runners.binding import Binding, run_bound
from edgelr.runners.protocol import Entry

Array = NDArray[Any]
Header = Mapping[str, Any]
Ask = Callable[[Header, Mapping[str, Array]], tuple[Header, dict[str, Array]]]
"""Sends (header, arrays) and gives the answer; raises UnsupportedModelError where the other side fails."""


class RemoteGraph:
    """A graph elsewhere.

    Args:
        ask: Reaches it.
        told: What it answered when it was opened: ``inputs``, ``outputs`` (name, type, shape of each) and
            ``parts`` (provider, and domain, name and operator of each node), where it knows them.
    """

    def __init__(self, ask: Ask, told: Header) -> None:
        self._ask = ask
        self._inputs, self._outputs = ([_entry(row) for row in told[key]] for key in ("inputs", "outputs"))
        self._parts = [_part(*row) for row in told.get("parts", [])]

    def get_inputs(self) -> Sequence[Entry]:
        """What it reads."""
        return self._inputs

    def get_outputs(self) -> Sequence[Entry]:
        """What it gives."""
        return self._outputs

    def get_provider_graph_assignment_info(self) -> Sequence[Any]:
        """Parts of the graph, as the other side recorded them; none where it does not know."""
        return self._parts

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """Run it once.

        Raises:
            UnsupportedModelError: The other side fails.
        """
        wanted = [entry.name for entry in self._outputs] if names is None else list(names)
        _, results = self._ask({"do": "run", "names": wanted}, feeds)
        return [results[name] for name in wanted]

    def io_binding(self) -> Binding:
        """Inputs and outputs bound by name, as ONNX Runtime does."""
        return Binding()

    def run_with_iobinding(self, binding: Binding) -> None:
        """Run it once on what is bound; bound outputs are overwritten."""
        run_bound(self, binding)


def _entry(row: Sequence[Any]) -> Entry:
    name, kind, shape = row
    return Entry(name=name, type=kind, shape=tuple(shape))


def _part(provider: str, nodes: Sequence[Sequence[str]]) -> Any:  # noqa: ANN401 - as ONNX Runtime gives it
    found = [SimpleNamespace(domain=domain, name=name, op_type=kind) for domain, name, kind in nodes]
    return SimpleNamespace(ep_name=provider, get_nodes=lambda: found)
