"""What quantization rounds, in torch: the same numbers as the quantized graph has, and a gradient through it.

Weights come out exactly as ONNX Runtime's quantizers round them, value for value. Ranges of activations are
those of the batch: of each text where a scheme measures them while running, of all texts where calibration
does.

Source:
    Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons (2013), for the
    straight-through estimator; Jacob et al., Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference (CVPR 2018), for simulating it while tuning.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

EIGHT_BITS = 127  # steps from zero to the end of the range
_LARGEST_PAIR = 128  # as in quantize/pairs.py


def straight_through(exact: Tensor, rounded: Tensor) -> Tensor:
    """The rounded values; for gradients, the exact ones.

    Args:
        exact: Of any shape.
        rounded: Of the same.
    """
    return cast(Tensor, _StraightThrough.apply(exact, rounded))  # type: ignore[no-untyped-call]


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exact: Tensor, rounded: Tensor) -> Tensor:  # noqa: ANN401 - torch's
        return rounded.to(exact.dtype).clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's
        return gradients[0], None


def round_rows(weight: Tensor, steps: int) -> Tensor:
    """A symmetric scale for each row, as for each output channel of an int8 matrix.

    Args:
        weight: ``[out, in]``, or a table ``[tokens, dim]``.
        steps: From zero to the end of the range.
    """
    scales = weight.abs().amax(dim=1, keepdim=True) / steps
    scales = torch.where(scales == 0, 1.0, scales)
    return (weight / scales).round().clamp(-steps, steps) * scales


def round_pairs(weight: Tensor) -> Tensor:
    """What ``int8-dynamic`` and ``int8-static`` multiply by: see ``quantize/pairs.py``.

    Args:
        weight: ``[out, in]``.
    """
    pairs = _blocks(weight.double(), 2)
    together = torch.where(pairs.prod(dim=-1) > 0, pairs.abs().sum(dim=-1), 0.0).amax(dim=-1)
    scales = torch.maximum(pairs.abs().amax(dim=(1, 2)) / EIGHT_BITS, together / _LARGEST_PAIR)
    scales = torch.where(scales == 0, 1.0, scales.float())[:, None, None]
    exact = pairs / scales
    codes = exact.round().clamp(-EIGHT_BITS, EIGHT_BITS)
    over = (codes.prod(dim=-1) > 0) & (codes.abs().sum(dim=-1) > _LARGEST_PAIR)
    up = codes.abs() - exact.abs()
    second = up[..., 1] > up[..., 0]
    codes = codes - codes.sign() * torch.stack([over & ~second, over & second], dim=-1)
    return _joined(codes.float() * scales, weight)


def round_blocks(weight: Tensor, bits: Literal[4, 8], size: int) -> Tensor:
    """A scale and a zero point for each block of a row, as of ``weight-int8`` and ``weight-int4``.

    Args:
        weight: ``[out, in]``.
        bits: Of a weight.
        size: Weights of a block; the last one may be shorter.
    """
    blocks, most = _blocks(weight, size), 2**bits - 1
    low = blocks.amin(dim=-1, keepdim=True).clamp(max=0)
    scales = (blocks.amax(dim=-1, keepdim=True).clamp(min=0) - low) / most
    scales = torch.where(scales == 0, 1.0, scales)
    # As ONNX Runtime's quantizer: times the reciprocal, and halves go up, where torch takes the even number.
    zero = (-low / scales + 0.5).floor().clamp(0, most)
    codes = (blocks * (1 / scales) + zero + 0.5).floor().clamp(0, most)
    return _joined((codes - zero) * scales, weight)


def round_table(table: Tensor, bits: Literal[4, 8], size: int) -> Tensor:
    """A symmetric scale for each block of a row: what a table is looked up and multiplied by in.

    Args:
        table: ``[tokens, dim]``.
        bits: Of a number.
        size: Numbers of a block; the last one may be shorter.
    """
    blocks, half = _blocks(table, size), 2 ** (bits - 1)
    furthest = blocks.gather(-1, blocks.abs().argmax(dim=-1, keepdim=True))
    scales = furthest / -half  # the end of the range with one more code is for the side that reaches further
    scales = torch.where(scales == 0, 1.0, scales)
    return _joined((blocks / scales).round().clamp(-half, half - 1) * scales, table)


def round_activation(values: Tensor, bits: Literal[8, 16], *, each: bool) -> Tensor:
    """One range for all values, zero in it, as of ``int8-dynamic``, ``int8-static`` and ``a16w8``.

    Args:
        values: ``[batch, ..., dim]``.
        bits: Of a value.
        each: Whether each entry of the batch has a range of its own: an app has a text a call.
    """
    most = 2**bits - 1
    axes = tuple(range(1 if each else 0, values.ndim))
    exact = values.float()
    low = exact.amin(dim=axes, keepdim=True).clamp(max=0)
    scale = (exact.amax(dim=axes, keepdim=True).clamp(min=0) - low) / most
    scale = torch.where(scale == 0, 1.0, scale)
    zero = (-low / scale).round()
    return ((exact / scale).round() + zero).clamp(0, most).sub(zero).mul(scale)


def round_activation_blocks(values: Tensor, size: int) -> Tensor:
    """A symmetric int8 scale for each block of the last axis: what ``MatMulNBits`` does before it multiplies.

    Args:
        values: ``[..., dim]``.
        size: Values of a block.
    """
    blocks = _blocks(values.float(), size)
    scales = blocks.abs().amax(dim=-1, keepdim=True) / EIGHT_BITS
    scales = torch.where(scales == 0, 1.0, scales)
    return _joined((blocks / scales).round() * scales, values)


def _blocks(values: Tensor, size: int) -> Tensor:
    """``[..., dim]`` as ``[..., blocks, size]``, filled up with zeros."""
    missing = -values.shape[-1] % size
    return nn.functional.pad(values, [0, missing]).reshape(*values.shape[:-1], -1, size)


def _joined(blocks: Tensor, like: Tensor) -> Tensor:
    return blocks.flatten(-2)[..., : like.shape[-1]]
