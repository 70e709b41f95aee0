"""Tracing a module: names, dynamic axes, and modules that cannot be traced."""

import logging

import pytest
import torch
from torch import Tensor, nn

from edgelr.errors import ExportError
from edgelr.export.convert import convert
from edgelr.tasks.task import GraphSpec


class Doubled(nn.Module):
    """Works for every batch and number of tokens."""

    def forward(self, ids: Tensor) -> Tensor:
        return ids.to(torch.float32) * 2


class Branching(nn.Module):
    """Decides by the values of its input: there is no one graph of it."""

    def forward(self, ids: Tensor) -> Tensor:
        return ids * 2 if ids.sum().item() > 3 else ids + torch.ones(int(ids.sum().item()))


class Fixed(nn.Module):
    """Works for five tokens only."""

    def forward(self, ids: Tensor) -> Tensor:
        return ids + torch.arange(5)


def spec(module: nn.Module) -> GraphSpec:
    return GraphSpec(
        role="model",
        module=module,
        cases=({"ids": torch.ones(2, 5, dtype=torch.int64)},),
        dynamic_axes={"ids": {0: "batch", 1: "tokens"}},
        outputs=("result",),
        output_axes={"result": {0: "batch"}},
    )


def test_axes_and_the_operator_set_are_those_asked_for() -> None:
    for opset in (18, 20):
        model = convert(spec(Doubled()), Doubled(), opset)
        (ids,) = model.graph.inputs
        assert [str(dim) for dim in ids.shape] == ["batch", "tokens"]
        assert model.opset_imports[""] == opset
        assert [value.name for value in model.graph.outputs] == ["edgelr_output_0"]


@pytest.mark.parametrize(
    ("module", "reason", "hint"),
    [
        (Branching(), r"the graph at opset 20: \S", "try another export.opset"),
        (
            Fixed(),
            "with 'tokens' as a dynamic axis: axis 1 of 'ids' became the constant 5",
            "one length only",
        ),
    ],
    ids=["values", "length"],
)
def test_what_cannot_be_traced_is_told_without_noise(
    module: nn.Module, reason: str, hint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    levels = logging.getLogger("torch.onnx").level
    with pytest.raises(ExportError, match=f"model: torch cannot export .*{reason}") as caught:
        convert(spec(module), module, 20)
    assert caught.value.exit_code == 7
    assert hint in str(caught.value)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert logging.getLogger("torch.onnx").level == levels
