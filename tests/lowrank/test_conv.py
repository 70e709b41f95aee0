import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgelr.lowrank.conv import (
    LowRankConv,
    empty_low_rank_conv,
    low_rank_conv,
    reason_against_conv,
)
from edgelr.lowrank.conv_cost import conv_macs, conv_parameters, largest_rank
from edgelr.lowrank.conv_patches import conv_output_gram, patch_gram, patches
from edgelr.lowrank.svd import decompose, decompose_outputs
from edgelr.lowrank.weight import conv_matrix

SETTINGS = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (1, 3), "padding": (2, 0), "dilation": (2, 1)},
    {"padding": "same", "dilation": (1, 3)},
    {"padding": "valid", "bias": False},
    {"padding": (1, 2), "padding_mode": "reflect"},
    {"padding": (2, 1), "padding_mode": "circular", "stride": 2},
    {"padding": "same", "padding_mode": "replicate"},
]


def conv2d(**settings) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, (3, 4), **settings)


def conv1d(**settings) -> nn.Conv1d:
    torch.manual_seed(0)
    return nn.Conv1d(4, 6, 5, **settings)


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def factors_of(conv, form, rank):
    return decompose(numbers(conv_matrix(conv.weight, form))).truncated(rank)


@pytest.mark.parametrize("form", ["channel", "spatial"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_full_rank_is_the_same_convolution(settings, form):
    dense = conv2d(**settings)
    rank = largest_rank(6, 4, (3, 4), form)
    low = low_rank_conv(dense, factors_of(dense, form, rank), form)
    x = torch.randn(2, 4, 11, 13)
    torch.testing.assert_close(low(x), dense(x), atol=1e-5, rtol=1e-5)  # fp32 rounding of two products
    torch.testing.assert_close(low.weight, dense.weight, atol=1e-5, rtol=1e-5)
    assert (low.kernel_size, low.stride, low.dilation) == (dense.kernel_size, dense.stride, dense.dilation)
    assert (low.bias is None) == (dense.bias is None)


@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2, "padding": 3, "padding_mode": "reflect"}, {"padding": "same"}], ids=str
)
def test_full_rank_is_the_same_convolution_in_one_dimension(settings):
    dense = conv1d(**settings)
    low = low_rank_conv(dense, factors_of(dense, "channel", 6), "channel")
    x = torch.randn(2, 4, 11)
    torch.testing.assert_close(low(x), dense(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(low.weight, dense.weight, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 5])
@pytest.mark.parametrize("settings", SETTINGS[:4], ids=str)
def test_squared_error_on_the_inputs_is_the_dropped_energy(settings, rank):
    dense = conv2d(**settings).double()
    dense.requires_grad_(False)
    x = torch.randn(3, 4, 11, 13, dtype=torch.float64)
    weight = numbers(dense.weight.flatten(1))
    gram, outputs = patch_gram(dense, x), conv_output_gram(dense, dense(x))
    dropped = decompose(weight, gram).energies[rank:].sum()
    from_outputs = decompose_outputs(weight, outputs)
    for factors in (decompose(weight, gram).truncated(rank), from_outputs.truncated(rank)):
        low = low_rank_conv(dense, factors, "channel").requires_grad_(False)
        assert float((low(x) - dense(x)).square().sum()) == pytest.approx(dropped, rel=1e-6)
    assert from_outputs.energies[rank:].sum() == pytest.approx(dropped, rel=1e-6)


@pytest.mark.parametrize("rank", [1, 4, 7])
def test_squared_error_of_the_kernel_is_the_dropped_spatial_energy(rank):
    dense = conv2d().double()
    low = low_rank_conv(dense, factors_of(dense, "spatial", rank), "spatial")
    error = float((low.weight - dense.weight).detach().square().sum())
    energies = decompose(numbers(conv_matrix(dense.weight, "spatial"))).energies
    assert error == pytest.approx(energies[rank:].sum(), rel=1e-6)


@pytest.mark.parametrize("form", ["channel", "spatial"])
def test_costs_are_those_of_the_layer(form):
    dense = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
    low = empty_low_rank_conv(dense, 3, form)
    shape = (6, 4, (3, 3), 3, form)
    assert sum(parameter.numel() for parameter in low.parameters()) == conv_parameters(*shape)
    x = torch.zeros(1, 4, 12, 16)
    inner = low.down(x)
    positions = low.up(inner)[0, 0].numel()
    done = inner[0].numel() * low.down.weight[0].numel() + 6 * positions * low.up.weight[0].numel()
    assert done == conv_macs(*shape, stride=(2, 2)) * positions


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_bias_and_settings_are_the_dense_ones(dtype):
    dense = conv2d(padding=1).to(dtype)
    low = low_rank_conv(dense, factors_of(dense, "spatial", 2), "spatial")
    assert {parameter.dtype for parameter in low.parameters()} == {dtype}
    assert torch.equal(low.bias, dense.bias)
    assert (low.in_channels, low.out_channels, low.rank) == (4, 6, 2)


def test_an_empty_layer_draws_no_random_numbers():
    dense = conv2d()
    before = torch.get_rng_state()
    empty_low_rank_conv(dense, 2, "channel")
    assert torch.equal(torch.get_rng_state(), before)


class Scaled(nn.Conv2d):
    def forward(self, input):
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    ("module", "form", "reason"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "channel", "2 groups"),
        (nn.Conv1d(4, 4, 3, groups=4), "channel", "4 groups"),
        (nn.Conv1d(4, 4, 3), "spatial", "a kernel of 3 has no two axes"),
        (nn.Conv2d(4, 4, (1, 3)), "spatial", "a kernel of 1 x 3"),
        (nn.ConvTranspose2d(4, 4, 3), "channel", "ConvTranspose2d is not"),
        (nn.Linear(4, 4), "channel", "Linear is not"),
        (Scaled(4, 4, 3), "channel", "Scaled computes more"),
    ],
)
def test_what_cannot_be_factored_says_why(module, form, reason):
    assert reason in (reason_against_conv(module, form) or "")
    with pytest.raises(ValueError, match=reason):
        empty_low_rank_conv(module, 2, form)


def test_the_others_can():
    assert reason_against_conv(conv1d(), "channel") is None
    assert reason_against_conv(conv2d(), "channel") is None
    assert reason_against_conv(conv2d(), "spatial") is None


def test_patches_and_the_two_convolutions_agree_on_positions():
    dense = conv2d(stride=2, padding="valid")
    x = torch.randn(1, 4, 9, 9)
    assert len(patches(dense, x)) == dense(x)[0, 0].numel()


@pytest.mark.parametrize(
    ("dense", "form"),
    [
        (conv1d(stride=2, padding=2), "channel"),
        (conv2d(stride=2, padding=1), "channel"),
        (conv2d(padding="same", dilation=2), "spatial"),
        (conv2d(padding=1, padding_mode="replicate"), "spatial"),
    ],
    ids=["1d", "2d", "spatial", "padded"],
)
def test_onnx_runtime_computes_the_same(dense, form, tmp_path):
    low = low_rank_conv(dense, factors_of(dense, form, 3), form).eval()
    axes = len(dense.kernel_size)
    cases = [torch.randn(2, 4, *(12, 10)[:axes]), torch.randn(3, 4, *(21, 16)[:axes])]
    auto = torch.export.Dim.AUTO
    path = tmp_path / "conv.onnx"
    program = torch.onnx.export(
        low,
        (cases[0],),
        dynamo=True,
        opset_version=20,
        dynamic_shapes=({axis: auto for axis in range(axes + 2) if axis != 1},),
        verbose=False,
    )
    program.save(path)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in program.model.graph]
    assert operators.count("Conv") == 2, "the two convolutions are not merged"
    for x in cases:
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(found, low(x).detach().numpy(), atol=1e-5)  # fp32, other summation order


def test_a_layer_prints_its_form_and_rank():
    assert "form=spatial, rank=2" in str(empty_low_rank_conv(conv2d(), 2, "spatial"))
    assert isinstance(empty_low_rank_conv(conv1d(), 2, "channel"), LowRankConv)
