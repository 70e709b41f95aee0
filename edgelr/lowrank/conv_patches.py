"""What a convolution sees: its input as rows, and the Gram matrices of its inputs and outputs.

Every output position is the kernel, as a matrix ``[out, in·kh·kw]``, times one patch of the padded input.
With the patches as its inputs a convolution is a linear layer, and everything of ``svd.py`` holds.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.lowrank.conv import Conv
from edgelr.lowrank.svd import Matrix


def patches(conv: Conv, x: Tensor) -> Tensor:
    """The input of every output position: ``conv(x)`` is ``patches @ weight.flatten(1).T`` and the bias.

    Args:
        conv: A convolution with one group; padded, strided and dilated as it says.
        x: ``[batch, in, *space]`` or ``[in, *space]``.

    Returns:
        ``[batch·positions, in·kh·kw]``, positions row by row.
    """
    if x.ndim == len(conv.kernel_size) + 1:
        x = x[None]
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    padded = nn.functional.pad(x, _pads(conv), mode=mode)
    settings = (conv.kernel_size, conv.dilation, conv.stride)
    if isinstance(conv, nn.Conv1d):  # unfold knows images only: one row of pixels
        padded = padded[:, :, None]
        settings = ((1, *settings[0]), (1, *settings[1]), (1, *settings[2]))
    kernel, dilation, stride = settings
    columns = nn.functional.unfold(padded, kernel, dilation=dilation, stride=stride)
    return columns.transpose(1, 2).flatten(0, 1)


def _pads(conv: Conv) -> list[int]:
    """Before and after each axis, the last axis first, as ``torch.nn.functional.pad`` takes them."""
    pads = []
    for axis in reversed(range(len(conv.kernel_size))):
        if conv.padding == "same":  # what is odd goes after, as in torch
            total = conv.dilation[axis] * (conv.kernel_size[axis] - 1)
            pads += [total // 2, total - total // 2]
        else:
            pad = 0 if isinstance(conv.padding, str) else conv.padding[axis]
            pads += [pad, pad]
    return pads


@torch.no_grad()
def patch_gram(conv: Conv, x: Tensor) -> Matrix:
    """``Σ p pᵀ`` over the patches of an input, in fp64, one example at a time (patches are many).

    Args:
        conv: A convolution with one group.
        x: ``[batch, in, *space]``.

    Returns:
        ``[in·kh·kw, in·kh·kw]``.
    """
    size = conv.weight[0].numel()
    gram = np.zeros((size, size))
    for example in x:
        rows = patches(conv, example).double().cpu().numpy()
        gram += rows.T @ rows
    return gram


@torch.no_grad()
def conv_output_gram(conv: Conv, y: Tensor) -> Matrix:
    """``Σ y yᵀ`` over the positions of an output without its bias, in fp64: ``W G Wᵀ`` without patches.

    An output in fp32 has rounding errors of 1e-7 of its size, so energies below 1e-13 of the sum are noise.

    Args:
        conv: A convolution with one group.
        y: What it returned, ``[batch, out, *space]``.

    Returns:
        ``[out, out]``.
    """
    rows = y.movedim(1, -1).flatten(0, -2).double()
    if conv.bias is not None:
        rows = rows - conv.bias.double()
    values = rows.cpu().numpy()
    gram: Matrix = values.T @ values
    return gram
