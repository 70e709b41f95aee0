from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgelr.errors import ExportError, UnsupportedModelError
from edgelr.export.convert import convert
from edgelr.export.fuse import fuse_attention
from edgelr.export.graphs import matrix_count, traced_form
from edgelr.export.parity import check_parity
from edgelr.export.tidy import tidy
from edgelr.lowrank.graph_file import write_graph
from edgelr.runtime.graph import describe_graph
from edgelr.tasks.own_graphs import own_graph
from edgelr.tasks.own_module import Own
from edgelr.tasks.task import GraphSpec


class Sound(nn.Module):
    """A convolution, a recurrent layer, a matrix of its own, and a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.gru = nn.Conv1d(3, 8, 3), nn.GRU(8, 5, batch_first=True)
        self.free, self.unused = nn.Parameter(torch.randn(5, 4)), nn.Linear(4, 4)

    def forward(self, sound: Tensor, gain: Tensor) -> dict[str, Tensor]:
        states, _ = self.gru(self.near(sound).transpose(1, 2))
        return {"y": (states @ self.free) * gain[:, None], "same": 2 * sound, "first": states[:, 0].argmax(1)}


OWN = Own(
    module="sound.py:build",
    inputs=("gain", "sound"),
    outputs=("y", "same", "first"),
    axes={"gain": {0: "batch"}, "sound": {0: "batch", 2: "samples"}},
)
ROWS = [{"sound": torch.randn(1, 3, 24), "gain": torch.rand(1, 4)} for _ in range(2)]


def written(spec: GraphSpec, path: Path) -> None:
    graph = convert(spec, traced_form(spec.module), 20)
    fuse_attention(graph)
    write_graph(tidy(graph, spec, matrix_count(spec.module, spec.idle)), path)


def test_a_graph_has_the_users_names_and_axes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = own_graph(Sound().eval(), OWN, ROWS)
    assert [tuple(case["sound"].shape) for case in spec.cases] == [(2, 3, 24), (1, 3, 24), (3, 3, 18)]
    written(spec, tmp_path / "model.onnx")
    graph = describe_graph(tmp_path / "model.onnx")
    shapes = {entry.name: entry.shape for entry in (*graph.inputs, *graph.outputs)}
    assert shapes["sound"] == shapes["same"] == ("batch", 3, "samples")
    assert shapes["gain"] == ("batch", 4)
    assert shapes["first"] == ("batch",)
    assert shapes["y"] == ("batch", "y_1", 4)
    cases, worst = check_parity(spec, tmp_path / "model.onnx", 1e-4)
    assert worst < 1e-5
    assert len(cases) == 3
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"))
    assert not any(
        np.shape(weight.dims) == (4, 4) for weight in onnx.load(tmp_path / "model.onnx").graph.initializer
    )


def test_a_lost_matrix_is_found_all_the_same(tmp_path: Path) -> None:
    spec = own_graph(Sound().eval(), OWN, ROWS)
    graph = convert(spec, traced_form(spec.module), 20)
    with pytest.raises(ExportError, match="the model by 99"):
        tidy(graph, spec, 99)


def test_an_axis_that_cannot_have_every_size_is_named() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(-1, 10)

    own = Own(module="fixed.py:build", inputs=("x",), outputs=("output",), axes={"x": {0: "batch", 1: "n"}})
    with pytest.raises(UnsupportedModelError, match=r"fixed.py: the module fails with x \[3, 7\]"):
        own_graph(Fixed(), own, [{"x": torch.zeros(1, 10)}])
