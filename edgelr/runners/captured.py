"""A graph whose kernels are captured once, and launched together after that: a CUDA graph.

ONNX Runtime captures what it runs first, where its provider's option asks for it, and then wants every input
and output at the address where it was. So they are bound once, in the GPU's memory, and only their contents
change. There was no GPU where this was written: what is tested is the binding, in the host's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgelr.errors import UnsupportedModelError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# ONNX Runtime's words for types, where NumPy has others.
_NUMPY = {"float": "float32", "double": "float64"}


class CapturedGraph:
    """A session whose inputs and outputs stay where they are.

    Args:
        session: Open, and without an open axis.
        memory: Where they are, as ONNX Runtime names it: ``cuda`` or ``cpu``.

    Raises:
        UnsupportedModelError: The size of an input or of an output is not known before it runs.
    """

    def __init__(self, session: InferenceSession, memory: str = "cuda") -> None:
        self._session, self._binding = session, session.io_binding()
        self._inputs = {entry.name: _allocated(entry, memory) for entry in session.get_inputs()}
        self._outputs = {entry.name: _allocated(entry, memory) for entry in session.get_outputs()}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def get_inputs(self) -> Sequence[Any]:
        """What it reads."""
        entries: Sequence[Any] = self._session.get_inputs()
        return entries

    def get_outputs(self) -> Sequence[Any]:
        """What it gives."""
        entries: Sequence[Any] = self._session.get_outputs()
        return entries

    def get_provider_graph_assignment_info(self) -> Sequence[Any]:
        """Parts of the graph, with their providers."""
        parts: Sequence[Any] = self._session.get_provider_graph_assignment_info()
        return parts

    def end_profiling(self) -> str:
        """The file with the profile, where one is made."""
        return str(self._session.end_profiling())

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run it once, on copies of the inputs; the outputs are copied back."""
        for name, value in self._inputs.items():
            value.update_inplace(np.ascontiguousarray(feeds[name]))
        self._session.run_with_iobinding(self._binding)
        # Of memory of the host numpy() is a view, which the next run would change.
        return [np.array(self._outputs[name].numpy()) for name in (self._outputs if names is None else names)]


def _allocated(entry: Any, memory: str) -> Any:  # noqa: ANN401 - ONNX Runtime is untyped
    from onnxruntime import OrtValue

    if odd := [size for size in entry.shape if not isinstance(size, int)]:
        raise UnsupportedModelError(
            f"'{entry.name}' has a size that is not known before it runs, {odd[0]!r}: a CUDA graph needs all",
            "take the option for CUDA graphs out of the profile",
        )
    kind = entry.type.removeprefix("tensor(").removesuffix(")")
    return OrtValue.ortvalue_from_shape_and_type(entry.shape, np.dtype(_NUMPY.get(kind, kind)), memory, 0)
