"""What is bound is read and written, wherever the graph is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from edgelr.runners.binding import Binding, run_bound

value = onnxruntime.OrtValue.ortvalue_from_numpy


class Doubling:
    """x -> twice it, and half of it."""

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        results = {"twice": feeds["x"] * 2, "half": feeds["x"] / 2}
        assert names is not None
        return [results[name] for name in names]


def test_what_is_bound_is_written_and_the_rest_is_made() -> None:
    binding = Binding()
    given, mine = np.ones(3, np.float32), np.zeros(3, np.float32)
    binding.bind_ortvalue_input("x", value(given))
    binding.bind_output("half")
    binding.bind_ortvalue_output("twice", value(mine))
    run_bound(Doubling(), binding)  # type: ignore[arg-type]
    assert [each.numpy().tolist() for each in binding.get_outputs()] == [[0.5] * 3, [2.0] * 3]
    assert mine.tolist() == [2.0] * 3
    given[:] = 2
    run_bound(Doubling(), binding)  # type: ignore[arg-type]
    assert mine.tolist() == [4.0] * 3
