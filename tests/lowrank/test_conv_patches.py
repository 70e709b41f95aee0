import numpy as np
import pytest
import torch
from torch import nn

from edgelr.lowrank.conv_patches import conv_output_gram, patch_gram, patches

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


def rows(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.movedim(1, -1).flatten(0, -2)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_patches_times_the_kernel_are_the_output(settings):
    conv = nn.Conv2d(4, 6, (3, 4), **settings).double()
    x = torch.randn(2, 4, 11, 13, dtype=torch.float64)
    outputs = nn.functional.linear(patches(conv, x), conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(outputs, rows(conv(x)))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stride": 2, "padding": 3, "dilation": 2},
        {"padding": "same"},
        {"padding": 2, "padding_mode": "reflect"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kernel", [4, 5])
def test_patches_in_one_dimension(settings, kernel):
    conv = nn.Conv1d(4, 6, kernel, **settings).double()
    x = torch.randn(2, 4, 15, dtype=torch.float64)
    outputs = nn.functional.linear(patches(conv, x), conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(outputs, rows(conv(x)))


def test_an_input_without_a_batch_is_one_example():
    conv = nn.Conv2d(2, 3, 3, padding=1)
    x = torch.randn(2, 5, 6)
    assert torch.equal(patches(conv, x), patches(conv, x[None]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gram_matrix_is_that_of_all_patches(dtype):
    conv = nn.Conv2d(2, 3, 3, stride=2).to(dtype)
    x = torch.randn(4, 2, 8, 8, dtype=dtype)
    every = patches(conv, x).double().numpy()
    np.testing.assert_allclose(patch_gram(conv, x), every.T @ every, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("conv", [nn.Conv1d(2, 3, 3), nn.Conv2d(2, 3, 3, bias=False)], ids=["1d", "2d"])
def test_the_gram_matrix_of_outputs_is_that_of_patches_through_the_kernel(conv):
    conv = conv.double()
    x = torch.randn(4, 2, *(8, 9)[: len(conv.kernel_size)], dtype=torch.float64)
    weight = conv.weight.detach().flatten(1).numpy()
    expected = weight @ patch_gram(conv, x) @ weight.T
    np.testing.assert_allclose(conv_output_gram(conv, conv(x)), expected, rtol=1e-10, atol=1e-10)
