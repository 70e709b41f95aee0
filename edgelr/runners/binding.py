"""Inputs and outputs bound by name, as ONNX Runtime binds them, for graphs that are not its own sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgelr.runners.protocol import OpenGraph

if TYPE_CHECKING:
    from onnxruntime import OrtValue


class Binding:
    """What ``run_bound`` reads and writes."""

    def __init__(self) -> None:
        self.inputs: dict[str, OrtValue] = {}
        self.outputs: dict[str, OrtValue | None] = {}
        self.results: list[OrtValue] = []

    def bind_ortvalue_input(self, name: str, value: OrtValue) -> None:
        """Read a value."""
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: OrtValue) -> None:
        """Write into a value."""
        self.outputs[name] = value

    def bind_output(self, name: str) -> None:
        """Make a new value."""
        self.outputs[name] = None

    def get_outputs(self) -> list[OrtValue]:
        """What the last run gave, in the order in which outputs were bound."""
        return self.results


def run_bound(graph: OpenGraph, binding: Binding) -> None:
    """Run a graph on what is bound; bound outputs are overwritten.

    Args:
        graph: Open anywhere.
        binding: Inputs and outputs.

    Raises:
        UnsupportedModelError: The graph fails.
    """
    import onnxruntime

    feeds = {name: value.numpy() for name, value in binding.inputs.items()}
    results = graph.run(list(binding.outputs), feeds)
    binding.results = []
    for bound, result in zip(binding.outputs.values(), results, strict=True):
        if bound is None:
            binding.results.append(onnxruntime.OrtValue.ortvalue_from_numpy(result))
        else:
            bound.update_inplace(result)
            binding.results.append(bound)
