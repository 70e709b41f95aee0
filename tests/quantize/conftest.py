"""The small graphs are those of all tests of graphs."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny_graphs import Tiny, make_tiny, tiny

__all__ = ["make_tiny", "tiny"]


@pytest.fixture
def wide_inside(make_tiny) -> tuple[Tiny, NDArray[np.float32]]:
    """A factored graph with two wide channels between the factors, and the matrix that makes them."""
    made = make_tiny("factored")
    proto = onnx.load(made.path)
    (down,) = (each for each in proto.graph.initializer if each.name == "encoder.first.down.weight")
    matrix = numpy_helper.to_array(down).copy()
    matrix[:, (3, 17)] *= 20
    down.CopyFrom(numpy_helper.from_array(matrix, down.name))
    onnx.save(proto, made.path)
    return made, matrix
