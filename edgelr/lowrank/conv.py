"""A convolution in two: the layer, its factors in both forms, and why some convolutions have none.

``conv_cost.py`` has the two forms and what they cost. In both, the first convolution holds ``down`` and has
no bias, and the second holds ``up`` and the bias. Strides, paddings and dilations go where their axis is
convolved, so full rank is the same convolution, borders included.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from edgelr.lowrank.conv_cost import Form, has_two_axes
from edgelr.lowrank.svd import Factors

Conv = nn.Conv1d | nn.Conv2d


class LowRankConv(nn.Module):
    """``y = up(down(x))``, both convolutions; the bias is that of ``up``.

    Args:
        down: To ``rank`` channels, without a bias.
        up: From ``rank`` channels.
        form: ``channel`` or ``spatial``.
    """

    def __init__(self, down: Conv, up: Conv, form: Form) -> None:
        super().__init__()
        self.down = down
        self.up = up
        self.form = form
        self.in_channels = down.in_channels
        self.out_channels = up.out_channels
        self.rank = up.in_channels
        self.kernel_size = _joined(down.kernel_size, up.kernel_size)
        self.stride = _joined(down.stride, up.stride)
        self.dilation = _joined(down.dilation, up.dilation)

    @property
    def weight(self) -> Tensor:
        """The kernel that the two stand for, ``[out, in, *kernel]``; some models read its dtype."""
        if self.form == "spatial":
            return torch.einsum("orw,rih->oihw", self.up.weight[:, :, 0], self.down.weight[..., 0])
        product = self.up.weight.flatten(1) @ self.down.weight.flatten(1)
        return product.reshape(-1, *self.down.weight.shape[1:])

    @property
    def bias(self) -> Tensor | None:
        """The bias ``[out]``, if there is one."""
        return self.up.bias

    def forward(self, input: Tensor) -> Tensor:
        """Apply both convolutions.

        Args:
            input: ``[batch, in, *space]``.

        Returns:
            ``[batch, out, *space]``, of the size that the dense convolution gives.
        """
        return cast(Tensor, self.up(self.down(input)))

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        return f"form={self.form}, rank={self.rank}"


def reason_against_conv(module: nn.Module, form: Form) -> str | None:
    """Why a convolution cannot be factored in a form, or None when it can.

    Args:
        module: Any module.
        form: ``channel`` or ``spatial``.
    """
    name = type(module).__name__
    if not isinstance(module, Conv):
        return f"{name} is not a one- or two-dimensional convolution"
    if type(module).forward not in (nn.Conv1d.forward, nn.Conv2d.forward):
        return f"{name} computes more than a convolution"
    if module.groups > 1:
        return f"its {module.groups} groups of channels are not one matrix"
    if form == "spatial" and not has_two_axes(module.kernel_size):
        kernel = " x ".join(map(str, module.kernel_size))
        return f"a kernel of {kernel} has no two axes to separate"
    return None


def low_rank_conv(dense: Conv, factors: Factors, form: Form) -> LowRankConv:
    """A layer with these factors and the dense convolution's bias, settings, dtype and device.

    Args:
        dense: One that ``reason_against_conv`` has nothing against.
        factors: Of ``conv_matrix(dense.weight, form)``.
        form: ``channel`` or ``spatial``.
    """
    layer = empty_low_rank_conv(dense, factors.down.shape[0], form)
    up, down = torch.from_numpy(factors.up), torch.from_numpy(factors.down)
    if form == "spatial":  # the rows are (out, kw) and the kernel is [out, rank, 1, kw]
        up = up.reshape(dense.out_channels, -1, layer.rank).transpose(1, 2)
    with torch.no_grad():
        layer.down.weight.copy_(down.reshape(layer.down.weight.shape))
        layer.up.weight.copy_(up.reshape(layer.up.weight.shape))
        if layer.up.bias is not None:
            layer.up.bias.copy_(cast(Tensor, dense.bias))
    return layer


def empty_low_rank_conv(dense: Conv, rank: int, form: Form) -> LowRankConv:
    """The layer that takes a convolution's place, uninitialised, for weights to be loaded into.

    Args:
        dense: One that ``reason_against_conv`` has nothing against.
        rank: Channels between the two convolutions.
        form: ``channel`` or ``spatial``.

    Raises:
        ValueError: The convolution cannot be factored in this form.
    """
    if (reason := reason_against_conv(dense, form)) is not None:
        raise ValueError(reason)
    kind = nn.Conv1d if isinstance(dense, nn.Conv1d) else nn.Conv2d
    # skip_init draws no random numbers: what is loaded later must not change what is drawn later.
    build: Any = partial(
        nn.utils.skip_init,
        kind,
        padding_mode=dense.padding_mode,
        device=dense.weight.device,
        dtype=dense.weight.dtype,
    )
    first, second = _settings(dense, form)
    down = build(dense.in_channels, rank, bias=False, **first)
    up = build(rank, dense.out_channels, bias=dense.bias is not None, **second)
    return LowRankConv(down, up, form)


def _settings(dense: Conv, form: Form) -> tuple[dict[str, Any], dict[str, Any]]:
    """Kernel, stride, dilation and padding of the first and of the second convolution."""
    whole = {
        "kernel_size": dense.kernel_size,
        "stride": dense.stride,
        "dilation": dense.dilation,
        "padding": dense.padding,
    }
    if form == "channel":
        return whole, {"kernel_size": 1}
    # 'same' and 'valid' stay: they mean the right thing for each axis alone.
    vertical = {key: value if isinstance(value, str) else (value[0], 1) for key, value in whole.items()}
    horizontal = {key: value if isinstance(value, str) else (1, value[1]) for key, value in whole.items()}
    if not isinstance(dense.padding, str):
        vertical["padding"], horizontal["padding"] = (dense.padding[0], 0), (0, dense.padding[1])
    return vertical, horizontal


def _joined(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """A setting of the whole: along each axis, one of the two convolutions has 1."""
    return tuple(a * b for a, b in zip(first, second, strict=True))
