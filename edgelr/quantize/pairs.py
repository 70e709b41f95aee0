"""As many of the 8 bits of a weight as fit, where two products are added in 16 bits.

x86 processors without VNNI multiply an activation (0 to 255) by a weight (-127 to 127), and add the products
of inputs 2 k and 2 k + 1 in 16 bits: what is larger than 32767 is cut off. Weights of 7 bits never get there.
Nor do larger ones whose neighbor is small enough, or has the other sign: two of the same sign need only have
a sum of at most 128. So each output gets the finest scale that keeps all of its pairs within that, and the
products are exact on every processor.

Source:
    ``vpmaddubsw`` in the Intel 64 manual, volume 2; that ONNX Runtime's kernels (AVX2 and AVX-512 without
    VNNI) put inputs 2 k and 2 k + 1 together is what the test of this module finds out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
LARGEST_PAIR = 128  # 255 * 128 = 32640

Array = NDArray[Any]


def round_pairs(weight: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix to int8, with a scale for each output.

    Args:
        weight: ``[in, out]``.

    Returns:
        Codes ``[in, out]``, no two neighbors of one sign with a sum above 128, and scales ``[out]``.
    """
    rows, outs = weight.shape
    scales = pair_scales(weight)
    exact = _paired(weight) / scales
    codes = np.clip(np.rint(exact), -LARGEST, LARGEST)
    _keep_within(codes, exact)
    return codes.reshape(-1, outs)[:rows].astype(np.int8), scales


def pair_scales(weight: Array) -> NDArray[np.float32]:
    """The finest scale of each output that no pair of its weights is too large for.

    Args:
        weight: ``[in, out]``.

    Returns:
        ``[out]``; 1 where all weights are 0.
    """
    pairs = np.abs(_paired(weight))
    alike = _paired(weight).prod(axis=1) > 0
    together = np.where(alike, pairs.sum(axis=1), 0.0).max(axis=0)
    reach = np.maximum(pairs.max(axis=(0, 1)) / LARGEST, together / LARGEST_PAIR)
    return np.where(reach > 0, reach, 1.0).astype(np.float32)


def _paired(weight: Array) -> Array:
    """``[pairs, 2, out]``, with a row of zeros where one is left over."""
    rows, outs = weight.shape
    even = np.zeros((rows + rows % 2, outs))
    even[:rows] = weight
    return even.reshape(-1, 2, outs)


def _keep_within(codes: Array, exact: Array) -> None:
    """Take back one of each pair that rounding made too large, in place: the one that was rounded up more."""
    over = (codes.prod(axis=1) > 0) & (np.abs(codes).sum(axis=1) > LARGEST_PAIR)
    up = np.abs(codes) - np.abs(exact)
    second = up[:, 1] > up[:, 0]
    for place, chosen in enumerate((over & ~second, over & second)):
        codes[:, place] -= np.where(chosen, np.sign(codes[:, place]), 0)


def use_pairs(source: Path, target: Path) -> int:
    """Round the matrices that ONNX Runtime's quantizer gave 7 bits anew, in place.

    Args:
        source: The fp32 graph.
        target: The quantized one, a scale for each output.

    Returns:
        How many matrices were rounded.
    """
    import onnx
    from onnx import numpy_helper

    from edgelr.lowrank.graph_file import write_graph

    before, after = onnx.load(source), onnx.load(target)
    tensors = {tensor.name: tensor for tensor in after.graph.initializer}
    done = 0
    for matrix in before.graph.initializer:
        codes, scale = (tensors.get(f"{matrix.name}{part}") for part in ("_quantized", "_scale"))
        if codes is None or scale is None or list(scale.dims) != list(matrix.dims[1:]):
            continue
        rounded, scales = round_pairs(numpy_helper.to_array(matrix))
        codes.CopyFrom(numpy_helper.from_array(rounded, codes.name))
        scale.CopyFrom(numpy_helper.from_array(scales, scale.name))
        done += 1
    write_graph(after, target)
    return done
