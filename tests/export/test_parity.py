"""A graph that is not the torch model is found, and the shape that shows it is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from edgelr.errors import ExportError
from edgelr.export.parity import check_parity
from edgelr.tasks.task import GraphSpec

CASES = tuple({"ids": torch.arange(rows * 3).reshape(rows, 3)} for rows in (2, 1, 4))


class Model(nn.Module):
    """ids -> ids * factor, as floats."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, ids: Tensor) -> Tensor:
        return ids.to(torch.float32) * self.factor


def spec(model: nn.Module) -> GraphSpec:
    return GraphSpec(
        role="model",
        module=model,
        cases=CASES,
        dynamic_axes={"ids": {0: "batch"}},
        outputs=("result",),
        output_axes={"result": {0: "batch"}},
    )


@pytest.fixture
def graph(tmp_path: Path) -> Callable[..., Path]:
    """Write ids -> floats of them, times a number; with ``rows``, for that batch only."""

    def write(factor: float = 2.0, rows: int | str = "batch", columns: int = 3) -> Path:
        nodes = [
            helper.make_node("Cast", ["ids"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["floats", "factor"], ["wide"]),
            helper.make_node("Slice", ["wide", "zero", "columns", "one"], ["result"]),
        ]
        body = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, [rows, 3])],
            [helper.make_tensor_value_info("result", TensorProto.FLOAT, [rows, "columns"])],
            [
                helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]),
                *(
                    helper.make_tensor(name, TensorProto.INT64, [1], [value])
                    for name, value in (("zero", 0), ("one", 1), ("columns", columns))
                ),
            ],
        )
        path = tmp_path / "model.onnx"
        onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
        return path

    return write


def test_equal_graphs_give_the_cases_with_torchs_outputs(graph: Callable[..., Path]) -> None:
    cases, worst = check_parity(spec(Model()), graph(), 1e-6)
    assert worst == 0
    assert [case["result"].shape for case in cases] == [(2, 3), (1, 3), (4, 3)]
    np.testing.assert_array_equal(cases[2]["result"], np.arange(12).reshape(4, 3) * 2.0)


def test_the_largest_difference_is_returned(graph: Callable[..., Path]) -> None:
    _, worst = check_parity(spec(Model()), graph(2.5), 10.0)
    assert worst == pytest.approx(11 * 0.5)


def test_a_difference_names_the_output_and_the_shape(graph: Callable[..., Path]) -> None:
    with pytest.raises(
        ExportError, match=r"'result' at ids \(2, 3\): torch and ONNX differ by 2.5"
    ) as caught:
        check_parity(spec(Model()), graph(2.5), 1e-4)
    assert caught.value.exit_code == 7
    assert "export.tolerance" in str(caught.value)


def test_large_numbers_are_rounded_in_proportion(graph: Callable[..., Path]) -> None:
    numbers, off = 2e5, 1.0001
    check_parity(spec(Model(numbers)), graph(numbers * off), 2e-4)
    with pytest.raises(ExportError, match=r"more than the tolerance 1e-06 of numbers up to 1e\+06"):
        check_parity(spec(Model(numbers)), graph(numbers * off), 1e-6)


def test_a_graph_for_one_shape_only_is_found(graph: Callable[..., Path]) -> None:
    with pytest.raises(ExportError, match=r"ONNX Runtime fails on a graph with ids \[1, 3\]"):
        check_parity(spec(Model()), graph(rows=2), 1e-4)


def test_an_output_of_another_shape_is_found(graph: Callable[..., Path]) -> None:
    with pytest.raises(ExportError, match=r"ONNX gives shape \(2, 2\), torch \(2, 3\)"):
        check_parity(spec(Model()), graph(columns=2), 1e-4)


@pytest.mark.parametrize(
    ("onnx_factor", "torch_factor"), [(float("inf"), 2.0), (2.0, float("nan")), (2.0, float("inf"))]
)
def test_numbers_that_are_not_finite_are_never_equal(
    graph: Callable[..., Path], onnx_factor: float, torch_factor: float
) -> None:
    with pytest.raises(ExportError, match=r"not finite|differ by (nan|inf)"):
        check_parity(spec(Model(torch_factor)), graph(onnx_factor), 1e9)
