import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from edgelr.lowrank.conv import LowRankConv
from edgelr.lowrank.embedding import LowRankEmbedding
from edgelr.lowrank.kinds import empty_like, kind_of, low_rank_like, matrix_of, reason_against
from edgelr.lowrank.layers import LowRankLinear
from edgelr.lowrank.svd import decompose

CASES = {
    "linear": (lambda: nn.Linear(6, 4), "channel", (4, 6), torch.randn(2, 3, 6)),
    "linear without bias": (lambda: nn.Linear(6, 4, bias=False), "channel", (4, 6), torch.randn(2, 3, 6)),
    "transposed": (lambda: Conv1D(4, 6), "channel", (4, 6), torch.randn(2, 3, 6)),
    "embedding": (lambda: nn.Embedding(9, 4), "channel", (4, 9), torch.arange(9)),
    "conv 1d": (lambda: nn.Conv1d(2, 4, 3), "channel", (4, 6), torch.randn(2, 2, 7)),
    "conv 2d": (lambda: nn.Conv2d(2, 4, 3), "channel", (4, 18), torch.randn(2, 2, 7, 7)),
    "spatial": (lambda: nn.Conv2d(2, 4, (3, 5)), "spatial", (20, 6), torch.randn(2, 2, 7, 7)),
}
LAYERS = {
    "linear": LowRankLinear,
    "transposed-linear": LowRankLinear,
    "embedding": LowRankEmbedding,
    "conv": LowRankConv,
}


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@pytest.mark.parametrize("name", CASES)
def test_full_rank_computes_what_the_dense_layer_does(name):
    torch.manual_seed(0)
    make, form, shape, x = CASES[name]
    module = make()
    if isinstance(getattr(module, "bias", None), nn.Parameter):
        nn.init.normal_(module.bias)  # Conv1D starts with zeros
    matrix = matrix_of(module, form)
    assert tuple(matrix.shape) == shape
    assert not matrix.requires_grad
    low = low_rank_like(module, decompose(numbers(matrix)).truncated(min(shape)), form)
    assert isinstance(low, LAYERS[kind_of(module)])
    torch.testing.assert_close(low(x), module(x), atol=1e-5, rtol=1e-5)  # fp32 rounding of two products


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_the_dtype_is_the_dense_one(name, dtype):
    make, form, _, _ = CASES[name]
    module = make().to(dtype)
    assert matrix_of(module, form).dtype == dtype
    low = low_rank_like(module, decompose(numbers(matrix_of(module, form))).truncated(2), form)
    assert {parameter.dtype for parameter in low.parameters()} == {dtype}
    assert low.rank == 2


@pytest.mark.parametrize("name", CASES)
def test_an_empty_layer_takes_the_weights_of_a_factored_one(name):
    make, form, _, x = CASES[name]
    module = make()
    factored = low_rank_like(module, decompose(numbers(matrix_of(module, form))).truncated(2), form)
    empty = empty_like(module, 2, form)
    assert empty.load_state_dict(factored.state_dict())
    assert torch.equal(empty(x), factored(x))


class MoreLinear(nn.Linear):
    def forward(self, input):
        return super().forward(input) + 1


class MoreTransposed(Conv1D):
    def forward(self, x):
        return super().forward(x) + 1


class SameTransposed(Conv1D):
    """A name of its own, and nothing more."""


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (MoreLinear(2, 2), "MoreLinear computes more than a linear layer"),
        (MoreTransposed(2, 2), "MoreTransposed computes more than a linear layer"),
        (nn.Embedding(2, 2, max_norm=1.0), "max_norm"),
        (nn.Conv2d(2, 2, 3, groups=2), "2 groups"),
        (nn.LayerNorm(2), "LayerNorm is no layer with a matrix"),
    ],
)
def test_what_cannot_be_factored_says_why(module, reason):
    assert reason in (reason_against(module) or "")
    with pytest.raises(ValueError, match=reason):
        low_rank_like(module, decompose(np.eye(2)).truncated(1))


def test_a_subclass_that_computes_the_same_can_be():
    assert kind_of(SameTransposed(2, 2)) == "transposed-linear"
    assert reason_against(SameTransposed(2, 2)) is None


def test_other_modules_have_no_matrix():
    assert kind_of(nn.LayerNorm(2)) is None
    with pytest.raises(ValueError, match="LayerNorm"):
        matrix_of(nn.LayerNorm(2))


def test_transformers_is_not_imported():
    code = "import edgelr.lowrank.kinds, sys; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
