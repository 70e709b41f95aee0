"""What torch rounds is what ONNX Runtime's quantizers and kernels round, number for number."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgelr.finetune.rounding import (
    EIGHT_BITS,
    round_activation,
    round_activation_blocks,
    round_blocks,
    round_pairs,
    round_rows,
    round_table,
    straight_through,
)
from edgelr.quantize import pairs
from edgelr.quantize.blocks import Blocks, quantize_blocks
from edgelr.quantize.vocabulary import quantize_rows
from edgelr.quantize.weights import quantize_weights
from edgelr.runtime.probe import session_of

DRAW = np.random.default_rng(0)
OUT = 4000  # so many that some weights lie half between two codes
WEIGHT = DRAW.normal(size=(OUT, 80)).astype(np.float32)  # [out, in]; 80 is no multiple of 32
WEIGHT[3] = 0
WEIGHT[4] = np.abs(WEIGHT[4])
WEIGHT[5] = -np.abs(WEIGHT[5])


def halves(packed: np.ndarray) -> np.ndarray:
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def dequantized(path: Path, bits: int) -> np.ndarray:
    """``[out, in]`` of the one MatMulNBits of a graph."""
    graph = onnx.load(path).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    packed, scales, zeros = (arrays[name] for name in graph.node[0].input[1:4])
    out, blocks, _ = packed.shape
    codes = (halves(packed) if bits == 4 else packed).astype(np.float32)
    zero = zeros.reshape(out, -1)
    zero = (halves(zero)[:, :blocks] if bits == 4 else zero).astype(np.float32)
    values = (codes - zero[..., None]) * scales.reshape(out, blocks, 1)
    return np.asarray(values.reshape(out, -1)[:, : WEIGHT.shape[1]])


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_are_those_of_the_quantizer(tmp_path: Path, bits: int) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", 80), ("y", OUT))
    ]
    graph = helper.make_graph(
        [node], "g", ends[:1], ends[1:], [numpy_helper.from_array(WEIGHT.T.copy(), "w")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "fp32.onnx")
    quantize_weights(tmp_path / "fp32.onnx", tmp_path / "q.onnx", bits=bits, block_size=32)
    rounded = round_blocks(torch.from_numpy(WEIGHT), bits, 32).numpy()
    np.testing.assert_array_equal(rounded, dequantized(tmp_path / "q.onnx", bits))
    # The kernel rounds what it multiplies too, block by block.
    x = DRAW.normal(size=(6, 80)).astype(np.float32)
    (found,) = session_of(onnx.load(tmp_path / "q.onnx"), tmp_path).run(None, {"x": x})
    made = round_activation_blocks(torch.from_numpy(x), 32).numpy() @ rounded.T
    np.testing.assert_allclose(made, found, atol=1e-4)
    assert np.abs(x @ rounded.T - found).max() > 1e-3, "or it would say nothing"


@pytest.mark.parametrize("bits", [4, 8])
def test_tables_in_blocks(bits: int) -> None:
    codes, scales = quantize_blocks(WEIGHT, Blocks(bits=bits, size=32))
    codes = (halves(codes) if bits == 4 else codes).astype(np.float32) - 2 ** (bits - 1)
    values = (codes * scales[..., None]).reshape(OUT, -1)[:, :80]
    np.testing.assert_array_equal(round_table(torch.from_numpy(WEIGHT), bits, 32).numpy(), values)


def test_rows() -> None:
    codes, scales = quantize_rows(WEIGHT)
    np.testing.assert_array_equal(round_rows(torch.from_numpy(WEIGHT), EIGHT_BITS).numpy(), codes * scales)


@pytest.mark.parametrize("inputs", [1, 12, 13])
def test_pairs_are_those_of_the_quantizer(inputs):
    weight = np.random.default_rng(3).standard_normal((40, inputs)).astype(np.float32)
    weight[0] = 0
    codes, scales = pairs.round_pairs(weight.T)
    found = round_pairs(torch.from_numpy(weight)).numpy()
    np.testing.assert_array_equal(found, codes.T.astype(np.float32) * scales[:, None])


def test_activations_are_those_of_dynamic_quantization() -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = session_of(model, Path())
    texts = [DRAW.normal(loc=loc, size=(7, 16)).astype(np.float32) for loc in (0.0, 0.5, 9.0, -9.0)]
    texts.append(np.zeros((7, 16), np.float32))
    found = round_activation(torch.from_numpy(np.stack(texts)), 8, each=True).numpy()
    for values, made in zip(texts, found, strict=True):
        np.testing.assert_allclose(made, session.run(None, {"x": values})[0], atol=1e-6)
    together = round_activation(torch.from_numpy(np.stack(texts)), 8, each=False)
    assert len(together.unique()) <= 256
    fine = round_activation(torch.from_numpy(texts[0]), 16, each=False).numpy()
    np.testing.assert_allclose(fine, texts[0], atol=np.ptp(texts[0]) / 2**16)


def test_gradients_go_straight_through() -> None:
    weight = torch.tensor([[0.3, -1.0]], requires_grad=True)
    rounded = straight_through(weight, round_rows(weight.detach(), 2))
    assert rounded.tolist() == [[0.5, -1.0]]
    (rounded * torch.tensor([2.0, 3.0])).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[2.0, 3.0]]
