from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgelr.export.convert import convert
from edgelr.export.fuse import fuse_attention
from edgelr.export.graphs import matrix_count
from edgelr.export.tidy import tidy
from edgelr.lowrank.layers import LowRankLinear
from edgelr.tasks.task import GraphSpec


def test_every_attention_of_a_factored_build_is_fused(built: Path):
    graphs = [onnx.load(path) for path in (built / ".store" / "export").glob("*/model.onnx")]
    assert len(graphs) == 2  # the candidate and the dense baseline
    for graph in graphs:
        count = Counter(node.op_type for node in graph.graph.node)
        assert count["MultiHeadAttention"] == 2
        assert count["Softmax"] == 0
        # The mask is expanded once, not once a layer.
        biases = {node.input[5] for node in graph.graph.node if node.op_type == "MultiHeadAttention"}
        assert len(biases) == 1


class Joint(nn.Module):
    """Three layers with one ``down``."""

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LowRankLinear(size, size, rank, bias=True) for _ in range(3))
        for layer in self.layers:
            layer.down = self.layers[0].down
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, two, three = (layer(x) for layer in self.layers)
        return one + two.tanh() + three.sigmoid()


@pytest.mark.parametrize(("size", "rank"), [(16, 4), (64, 36), (256, 64)])
def test_layers_that_share_a_factor_multiply_by_it_once(size: int, rank: int) -> None:
    torch.manual_seed(0)
    model, x = Joint(size, rank).eval(), torch.randn(2, 3, size)
    axes = {0: "batch", 1: "tokens"}
    spec = GraphSpec(
        role="model",
        module=model,
        cases=({"x": x},),
        dynamic_axes={"x": axes},
        outputs=("y",),
        output_axes={"y": axes},
    )
    graph = convert(spec, model, 20)
    fuse_attention(graph)
    proto = tidy(graph, spec, matrix_count(model))
    assert matrix_count(model) == 4
    stored = sum(np.prod(tensor.dims) for tensor in proto.graph.initializer)
    assert stored <= sum(parameter.numel() for parameter in model.parameters()) + 3
    (found,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, model(x).detach(), rtol=1e-4, atol=1e-3)
