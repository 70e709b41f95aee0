"""ReLU in place of GELU: what is lost is what is said, on other data too, and little."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from array_packages import write_array_package
from onnx import TensorProto, helper, numpy_helper

from edgelr.errors import DataError, QuantizeError
from edgelr.progress import Progress
from edgelr.quantize.calibration import Data
from edgelr.quantize.graphs import Prepared, prepare_graph
from edgelr.quantize.rectify import prepared_for, rectified
from edgelr.quantize.stage import quantize_graph
from edgelr.recipe.quantize import Quantize

KIND = helper.make_tensor_value_info
DIM, WIDTH, RANK = 16, 48, 12
RELU = Quantize.model_validate({"scheme": "int8-dynamic", "activations": "relu"})


def write(path: Path, *, factored: bool = False, operator: str = "Gelu") -> Path:
    """A feed-forward block of an encoder, ``[batch, tokens, dim]``, with a mask that nothing reads."""
    draw = np.random.default_rng(0)
    arrays = {"v": draw.normal(size=(DIM, WIDTH)) / 3, "b": draw.normal(size=WIDTH) / 2}
    arrays["w"] = draw.normal(size=(WIDTH, RANK if factored else DIM))
    arrays |= {"u": draw.normal(size=(RANK, DIM))} if factored else {}
    arrays["c"] = draw.normal(size=DIM)
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["g"], "up"),
        helper.make_node("Add", ["g", "b"], ["h"], "bias"),
        helper.make_node(operator, ["h"], ["a"], "activation"),
        helper.make_node("MatMul", ["a", "w"], ["p"], "down"),
        *([helper.make_node("MatMul", ["p", "u"], ["q"], "second")] if factored else []),
        helper.make_node("Add", ["q" if factored else "p", "c"], ["y"], "after"),
    ]
    inputs = [
        KIND("x", TensorProto.FLOAT, ["batch", "tokens", DIM]),
        KIND("attention_mask", TensorProto.INT64, ["batch", "tokens"]),
    ]
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    ends = [KIND("y", TensorProto.FLOAT, ["batch", "tokens", DIM])]
    graph = helper.make_graph(nodes, "g", inputs, ends, weights)
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def calls(seed: int, count: int = 60) -> list[dict[str, Any]]:
    """Two texts of up to 9 tokens each, the second of them padded."""
    draw = np.random.default_rng(seed)
    mask = (np.arange(9) < np.array([9, 6])[:, None]).astype(np.int64)
    return [
        {"x": draw.normal(size=(2, 9, DIM)).astype(np.float32), "attention_mask": mask} for _ in range(count)
    ]


def run(path: Path, given: list[dict[str, Any]]) -> Any:
    """Of all tokens that are there."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["y"], each)[0][each["attention_mask"] > 0] for each in given])


def lost(exact: Any, found: Any) -> float:
    return float(np.square(found - exact).sum() / np.square(exact - exact.mean(axis=0)).sum())


def prepared(folder: Path, **options: Any) -> Prepared:
    (folder / "prepared").mkdir(parents=True)
    return prepare_graph(write(folder / "model.onnx", **options), folder / "prepared")


@pytest.mark.parametrize("factored", [False, True])
def test_little_is_lost_on_other_data_too(factored: bool, tmp_path: Path) -> None:
    graph, others = prepared(tmp_path, factored=factored), calls(2)
    after, (said,) = rectified(graph, calls(1))
    assert {node.op_type for node in onnx.load(after.path).graph.node} == {"MatMul", "Add", "Relu"}
    assert after.layers == graph.layers
    exact, found = run(graph.path, others), run(after.path, others)
    plain = run(write(tmp_path / "plain.onnx", factored=factored, operator="Relu"), others)
    assert lost(exact, found) < 0.5 * lost(exact, plain)
    if not factored:  # it is said of the first factor's product, which is no output
        measured = lost(run(graph.path, calls(1)), run(after.path, calls(1)))
        assert said == pytest.approx(measured, rel=1e-3)


def test_padding_is_not_fitted_to(tmp_path: Path) -> None:
    given = calls(1)
    one, _ = rectified(prepared(tmp_path / "one"), given)
    for each in given:
        each["x"][each["attention_mask"] == 0] = 1e3
    two, _ = rectified(prepared(tmp_path / "two"), given)
    assert onnx.load(one.path) == onnx.load(two.path)


def test_too_few_tokens_to_fit_to(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"calibration data has 45 tokens for 48 channels"):
        rectified(prepared(tmp_path), calls(1, count=3))


def test_a_graph_without_one_is_what_it_was(tmp_path: Path) -> None:
    graph = prepared(tmp_path, operator="Tanh")
    assert rectified(graph, calls(1)) == (graph, ())


def test_int8_products_follow_with_nothing_between(tmp_path: Path) -> None:
    source, target = write(tmp_path / "model.onnx"), tmp_path / "int8.onnx"
    quantize_graph(source, target, RELU, calls(1))
    made = {node.output[0]: node.op_type for node in onnx.load(target).graph.node}
    read = [node.input[0] for node in onnx.load(target).graph.node if node.op_type == "DynamicQuantizeLinear"]
    assert "Relu" in {made.get(name) for name in read}
    assert "Gelu" not in made.values()
    assert lost(run(source, calls(2)), run(target, calls(2))) < 0.05


def test_a_package_that_has_none_is_told_so(tmp_path: Path) -> None:
    package = write_array_package(tmp_path / "package")
    with pytest.raises(QuantizeError, match=r"activations: relu: .* has no GELU between two products"):
        prepared_for(package, RELU, Data(feeds={"model": []}), tmp_path, Progress(quiet=True))
