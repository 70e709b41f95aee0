"""Weights that graphs have in common are stored once, and the graphs compute what they did."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.runtime.graph import check_external_data
from edgelr.runtime.shared_weights import WEIGHTS, share_weights

DRAW = np.random.default_rng(0)
COMMON = DRAW.normal(size=(64, 128)).astype(np.float32)


def write(path: Path, *weights: np.ndarray) -> Path:
    """x -> x times each of the weights in turn, summed."""
    names = [f"w{number}" for number in range(len(weights))]
    nodes = [helper.make_node("MatMul", ["x", name], [f"y.{name}"]) for name in names]
    nodes.append(helper.make_node("Sum", [f"y.{name}" for name in names], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 128])],
        [numpy_helper.from_array(array, name) for name, array in zip(names, weights, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def run(path: Path) -> np.ndarray:
    x = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    return ort.InferenceSession(path).run(None, {"x": x})[0]


def test_a_common_weight_is_stored_once_and_every_graph_computes_the_same(tmp_path: Path) -> None:
    own = DRAW.normal(size=(64, 128)).astype(np.float32)
    paths = [write(tmp_path / "a.onnx", COMMON, own), write(tmp_path / "b.onnx", COMMON)]
    before = [run(path) for path in paths]
    assert share_weights(paths) == COMMON.nbytes
    assert (tmp_path / WEIGHTS).stat().st_size == COMMON.nbytes
    for path, expected in zip(paths, before, strict=True):
        np.testing.assert_array_equal(run(path), expected)
        check_external_data(path, [WEIGHTS])
    assert paths[1].stat().st_size < 1000


def test_each_weight_begins_on_a_page_and_the_bytes_are_the_same_every_time(tmp_path: Path) -> None:
    odd = DRAW.normal(size=(64, 128)).astype(np.float32)[:, :127].copy()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        share_weights([write(tmp_path / name / f"{each}.onnx", odd, COMMON[:, :127].copy()) for each in "ab"])
    first, second = (tmp_path / name / WEIGHTS for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    model = onnx.load(tmp_path / "one" / "a.onnx", load_external_data=False)
    offsets = [int(entry.value) for tensor in model.graph.initializer for entry in tensor.external_data
               if entry.key == "offset"]  # fmt: skip
    assert len(offsets) == 2
    assert all(offset % 4096 == 0 for offset in offsets)


@pytest.mark.parametrize("change", ["value", "shape", "small"])
def test_what_is_not_the_same_stays_where_it_is(tmp_path: Path, change: str) -> None:
    other = {"value": COMMON + 1, "shape": COMMON.reshape(64, 128)[:, ::-1].copy(), "small": COMMON}[change]
    one = COMMON[:, :8].copy() if change == "small" else COMMON
    paths = [write(tmp_path / "a.onnx", one), write(tmp_path / "b.onnx", other[:, : one.shape[1]].copy())]
    contents = [path.read_bytes() for path in paths]
    assert share_weights(paths) == 0
    assert [path.read_bytes() for path in paths] == contents
    assert not (tmp_path / WEIGHTS).exists()
