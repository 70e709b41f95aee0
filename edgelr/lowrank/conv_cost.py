"""What a factored convolution costs, from its shape alone: no torch, so that planning can ask.

A convolution ``[out, in, *kernel]`` is factored as a matrix, in one of two forms:

=========  ====================  ====================================================================
form       the matrix            what computes it
=========  ====================  ====================================================================
channel    [out, in·kh·kw]       a kh x kw convolution to ``rank`` channels, then a 1 x 1 one to ``out``
spatial    [out·kw, in·kh]       a kh x 1 convolution to ``rank`` channels, then a 1 x kw one to ``out``
=========  ====================  ====================================================================

Numbers stored are those of any factored matrix, ``rank·(rows + columns)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, assert_never

Form = Literal["channel", "spatial"]


def matrix_shape(out: int, in_: int, kernel: Sequence[int], form: Form) -> tuple[int, int]:
    """Rows and columns of the matrix that is factored.

    Args:
        out: Channels out.
        in_: Channels in.
        kernel: ``(k,)`` or ``(kh, kw)``.
        form: Which matrix.

    Raises:
        ValueError: The spatial form of a kernel that has not two axes.

    Source:
        channel: Zhang et al., Accelerating Very Deep Convolutional Networks (TPAMI 2016); spatial:
        Jaderberg et al., Speeding up Convolutional Neural Networks with Low Rank Expansions (BMVC 2014),
        scheme 2.
    """
    match form:
        case "channel":
            return out, in_ * math.prod(kernel)
        case "spatial":
            if len(kernel) != 2:
                raise ValueError(f"the spatial form needs a kernel of two axes, not {tuple(kernel)}")
            return out * kernel[1], in_ * kernel[0]
        case _:
            assert_never(form)


def has_two_axes(kernel: Sequence[int]) -> bool:
    """Whether a kernel has two axes to separate, which the spatial form needs."""
    return len(kernel) == 2 and min(kernel) > 1


def conv_parameters(out: int, in_: int, kernel: Sequence[int], rank: int | None, form: Form) -> int:
    """Numbers stored without the bias: ``rank·(rows + columns)``, or those of the dense kernel.

    Args:
        out: Channels out.
        in_: Channels in.
        kernel: ``(k,)`` or ``(kh, kw)``.
        rank: Channels between the two convolutions; None for dense.
        form: Which two convolutions.

    Raises:
        ValueError: The spatial form of a kernel that has not two axes.
    """
    rows, columns = matrix_shape(out, in_, kernel, form)
    return rows * columns if rank is None else rank * (rows + columns)


def conv_macs(
    out: int, in_: int, kernel: Sequence[int], rank: int | None, form: Form, *, stride: Sequence[int]
) -> int:
    """Multiply-accumulates for each output position.

    Both convolutions of the channel form run at the output's positions. The first one of the spatial form has
    not yet taken the stride along the width: it has ``stride_w`` times as many positions (exactly so where
    the input is ``stride_w`` times as wide as the output; up to the border otherwise).

    Args:
        out: Channels out.
        in_: Channels in.
        kernel: ``(k,)`` or ``(kh, kw)``.
        rank: Channels between the two convolutions; None for dense.
        form: Which two convolutions.
        stride: One for each axis of the kernel.

    Raises:
        ValueError: The spatial form of a kernel that has not two axes.
    """
    rows, columns = matrix_shape(out, in_, kernel, form)
    if rank is None:
        return rows * columns
    return rank * (rows + columns * (stride[1] if form == "spatial" else 1))


def largest_rank(out: int, in_: int, kernel: Sequence[int], form: Form) -> int:
    """The rank at which the factors are exact.

    Args:
        out: Channels out.
        in_: Channels in.
        kernel: ``(k,)`` or ``(kh, kw)``.
        form: Which matrix.

    Raises:
        ValueError: The spatial form of a kernel that has not two axes.
    """
    return min(matrix_shape(out, in_, kernel, form))
