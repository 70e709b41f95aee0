import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from edgelr.lowrank.kinds import matrix_of, weight_of
from edgelr.lowrank.weight import conv_matrix

LAYERS = [nn.Linear(5, 4), Conv1D(4, 5), nn.Embedding(9, 4), nn.Conv1d(5, 4, 3), nn.Conv2d(5, 4, (2, 3))]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_the_matrix_is_that_of_the_layer(layer):
    weight = weight_of(layer)
    np.testing.assert_array_equal(weight.matrix(), matrix_of(layer).detach().numpy())
    assert weight.matrix().dtype == np.float64
    assert weight.kernel == tuple(getattr(layer, "kernel_size", ()))


def test_half_precision_becomes_what_numpy_knows():
    weight = weight_of(nn.Linear(5, 4).to(torch.bfloat16))
    assert weight.values.dtype == np.float32


@pytest.mark.parametrize("form", ["channel", "spatial"])
def test_numpy_and_torch_cut_a_kernel_alike(form):
    kernel = torch.randn(4, 5, 2, 3)
    np.testing.assert_array_equal(conv_matrix(kernel, form).numpy(), conv_matrix(kernel.numpy(), form))


def test_a_spatial_row_is_an_output_at_a_place_along_the_width():
    kernel = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(conv_matrix(kernel, "spatial")[1], kernel[0, :, :, 1].ravel())
