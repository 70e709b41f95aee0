import pytest
import torch
from torch import nn

from edgelr.lowrank.kinds import low_rank_like
from edgelr.lowrank.layers import IntoHeads, LowRankLinear, OutOfHeads, replace_module
from edgelr.lowrank.svd import decompose

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def dense() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 4)


def factors(layer: nn.Linear, rank: int):
    return decompose(layer.weight.detach().double().numpy()).truncated(rank)


def test_full_rank_computes_what_the_dense_layer_does():
    layer = dense()
    low = low_rank_like(layer, factors(layer, 4))
    x = torch.randn(3, 5, 6)
    torch.testing.assert_close(low(x), layer(x))  # fp32 rounding of a product of two factors
    torch.testing.assert_close(low.weight, layer.weight)


def test_a_layer_without_bias_has_none():
    layer = nn.Linear(6, 4, bias=False)
    low = low_rank_like(layer, factors(layer, 2))
    assert low.bias is None
    assert low(torch.ones(1, 6)).shape == (1, 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_is_that_of_the_dense_layer(dtype):
    layer = dense().to(dtype)
    low = low_rank_like(layer, factors(layer, 2))
    assert {parameter.dtype for parameter in low.parameters()} == {dtype}
    assert torch.equal(low.bias, layer.bias)


def test_layers_that_share_down_are_tuned_and_stored_as_one():
    one, other = (low_rank_like(dense(), factors(dense(), 2)) for _ in range(2))
    other.down = one.down
    model = nn.ModuleList([one, other])
    assert len(list(model.parameters())) == 5
    x = torch.randn(3, 6)
    (one(x).sum() + other(x).sum()).backward()
    alone = low_rank_like(dense(), factors(dense(), 2))
    alone(x).sum().backward()
    torch.testing.assert_close(one.down.grad, 2 * alone.down.grad)


def test_a_module_is_replaced_wherever_it_is():
    model = nn.Sequential(nn.Sequential(dense()))
    before, after = model[0][0], nn.Linear(6, 4)
    assert replace_module(model, "0.0", after) is before
    assert model.get_submodule("0.0") is after


# --- heads -------------------------------------------------------------------------------------------


def into(dtype=torch.float32, *, bias=True) -> IntoHeads:
    torch.manual_seed(0)
    return IntoHeads(6, heads=3, head_size=4, size=2, bias=bias).to(dtype)


def out_of(dtype=torch.float32, *, bias=True) -> OutOfHeads:
    torch.manual_seed(0)
    return OutOfHeads(heads=3, head_size=4, size=2, out_features=5, bias=bias).to(dtype)


def padded(layer: IntoHeads, x: torch.Tensor) -> torch.Tensor:
    """Every head's channels, then its zeros, by hand."""
    channels = layer.narrow(x).split(layer.size, dim=-1)
    zeros = torch.zeros(*x.shape[:-1], layer.head_size - layer.size, dtype=x.dtype)
    return torch.cat([piece for each in channels for piece in (each, zeros)], dim=-1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6,), (2, 6), (2, 3, 6)], ids=str)
def test_channels_come_first_in_each_head_and_zeros_after(shape, bias):
    layer, x = into(bias=bias), torch.randn(shape)
    assert torch.equal(layer(x), padded(layer, x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_into_heads_equals_its_wide_linear(dtype, bias):
    layer, x = into(dtype, bias=bias), torch.randn(2, 3, 6).to(dtype)
    wide = layer.widened()
    assert (type(wide), wide.weight.dtype, wide.weight.shape) == (nn.Linear, dtype, (12, 6))
    assert (wide.bias is None) == (not bias)
    torch.testing.assert_close(wide(x), layer(x))
    zero = wide.weight.reshape(3, 4, 6)[:, 2:]
    assert not zero.any(), "the export finds the zeros by their being exactly that"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_out_of_heads_equals_its_wide_linear(dtype, bias):
    layer, x = out_of(dtype, bias=bias), torch.randn(2, 3, 12).to(dtype)
    wide = layer.widened()
    assert (type(wide), wide.weight.dtype, wide.weight.shape) == (nn.Linear, dtype, (5, 12))
    assert (wide.bias is None) == (not bias)
    torch.testing.assert_close(wide(x), layer(x))


def test_out_of_heads_reads_what_into_heads_writes():
    value, output = into(), out_of()
    x = torch.randn(2, 3, 6)
    torch.testing.assert_close(output(value(x)), output.narrow(value.narrow(x)))


def test_sizes_are_those_that_attention_code_reads():
    assert (into().in_features, into().out_features) == (6, 12)
    assert (out_of().in_features, out_of().out_features) == (12, 5)


def test_the_input_may_be_given_by_name():
    x = torch.randn(2, 6)
    for layer in (low_rank_like(dense(), factors(dense(), 2)), into()):
        assert torch.equal(layer(input=x), layer(x))
    x = torch.randn(2, 12)
    assert torch.equal(out_of()(input=x), out_of()(x))


def test_both_can_be_tuned():
    value, output = into(), out_of()
    output(value(torch.randn(2, 6))).square().sum().backward()
    for layer in (value, output):
        assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
    assert isinstance(low_rank_like(dense(), factors(dense(), 2)), LowRankLinear)
