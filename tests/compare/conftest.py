from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.artifacts import Package


@pytest.fixture
def package(make_package: Callable[..., Package]) -> Package:
    return make_package()


@pytest.fixture
def one_layer(tmp_path: Path) -> Callable[[int], Path]:
    """A graph that multiplies ``x [tokens, 128]`` by a matrix a number of times."""

    def write(times: int) -> Path:
        matrix = np.eye(128, dtype=np.float32)
        names = ["x", *(f"h{number}" for number in range(times - 1)), "y"]
        nodes = [helper.make_node("MatMul", [one, "matrix"], [other]) for one, other in pairwise(names)]
        shape = ["tokens", 128]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(matrix, "matrix")],
        )
        path = tmp_path / f"{times}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
        return path

    return write
