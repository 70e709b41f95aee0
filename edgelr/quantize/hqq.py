"""Scales and zero points of blocks that suit most of their weights: half-quadratic quantization.

A block's range is that of its two extreme weights, and with plain rounding all others pay for these. Here
the sum over the block of ``|weight - scale (code - zero)| ** 0.7`` is made smaller: it forgives a few large
errors for many small ones. No data is looked at. Zero points stay whole numbers, as ONNX Runtime's quick
kernels want them, and the scale is fitted with them; a block whose error does not fall keeps what it has.

Source:
    Badri and Shaji, Half-Quadratic Quantization of Large Machine Learning Models (2023): the objective with p
    below 1, and its two sub-problems, shrinkage of the error and the fit of the grid; their settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

POWER = 0.7
_STEPS = 20
_FIRST_PENALTY = 10.0
_PENALTY_GROWTH = 1.01
_CHUNK = 2**21  # weights at a time

Array = NDArray[Any]
Known = dict[tuple[str, int], tuple[Array, Array, Array]]
"""(matrix, bits) -> codes, scales, zero points as ``MatMulNBits`` has them."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What blocks of weights are rounded to, ``scale (code - zero)``.

    Attributes:
        codes: ``[blocks, size]``.
        scale: ``[blocks, 1]``.
        zero: Whole numbers, likewise.
    """

    codes: Array
    scale: Array
    zero: Array

    @property
    def values(self) -> Array:
        """What the codes stand for."""
        return np.asarray(self.scale * (self.codes - self.zero))


def fit(weights: Array, grid: Grid, bits: Literal[4, 8]) -> Grid:
    """Find a grid with less of the objective, for each block by itself, as long as one of them gets better.

    Args:
        weights: ``[blocks, size]``; NaN where a block is shorter.
        grid: Of plain rounding.
        bits: Of a code.
    """
    there = ~np.isnan(weights)
    weights = np.where(there, weights, 0)
    best, now, penalty = grid, grid, _FIRST_PENALTY
    errors = np.where(there, weights - grid.values, 0)
    roots = _roots(errors)
    least = (np.abs(errors) * roots).sum(axis=1)
    for _ in range(_STEPS):
        target = weights - np.sign(errors) * np.maximum(np.abs(errors) - roots / penalty, 0)
        now = _refit(weights, there, now, target, 2**bits - 1)
        errors = np.where(there, weights - now.values, 0)
        roots = _roots(errors)
        found = (np.abs(errors) * roots).sum(axis=1)
        better = (found < least)[:, None]
        if not better.any():
            break
        best = Grid(**{key: np.where(better, value, vars(best)[key]) for key, value in vars(now).items()})
        least = np.minimum(found, least)
        penalty *= _PENALTY_GROWTH
    return best


def _refit(weights: Array, there: Array, now: Grid, target: Array, largest: int) -> Grid:
    """Zero points, then scales, nearest to a target with the codes as they are; then the codes of these."""
    count = there.sum(axis=1, keepdims=True)
    zero = np.where(there, now.codes - target / now.scale, 0).sum(axis=1, keepdims=True) / count
    zero = np.clip(np.rint(zero), 0, largest)
    steps = np.where(there, now.codes - zero, 0)
    energy = np.square(steps).sum(axis=1, keepdims=True)
    fitted = (target * steps).sum(axis=1, keepdims=True) / np.where(energy > 0, energy, 1)
    scale = np.where(fitted * now.scale > 0, fitted, now.scale)
    return Grid(codes=np.clip(np.rint(weights / scale + zero), 0, largest), scale=scale, zero=zero)


def _roots(errors: Array) -> Array:
    """What an error is multiplied by to be its part of the objective, ``|error| ** (0.7 - 1)``."""
    size = np.abs(errors)
    return np.asarray(np.where(size > 0, size, 1) ** (POWER - 1))


def use_half_quadratic(source: Path, target: Path, bits: Literal[4, 8], known: Known | None = None) -> int:
    """Round the blocks that ONNX Runtime's quantizer made anew, in place.

    Args:
        source: The fp32 graph.
        target: The quantized one.
        bits: Of its codes.
        known: What calls before found in the same graph with the same blocks; added to.

    Returns:
        How many matrices were rounded.
    """
    import onnx
    from onnx import numpy_helper

    from edgelr.lowrank.graph_file import write_graph

    before, after = onnx.load(source), onnx.load(target)
    weights = {tensor.name: tensor for tensor in before.graph.initializer}
    products = [node for node in before.graph.node if node.op_type == "MatMul"]
    matrices = {node.output[0]: weights.get(node.input[1]) for node in products}
    tensors = {tensor.name: tensor for tensor in after.graph.initializer}
    known = {} if known is None else known
    done = set()
    for node in after.graph.node:
        matrix = matrices.get(node.output[0]) if node.op_type == "MatMulNBits" else None
        if matrix is None or len(node.input) < 4 or node.input[1] in done:
            continue
        parts = [tensors[name] for name in node.input[1:4]]
        key = (matrix.name, bits)
        if key not in known:
            packed, scales, zeros = (numpy_helper.to_array(part) for part in parts)
            known[key] = _rounded(numpy_helper.to_array(matrix), packed, scales, zeros, bits)
        for tensor, array in zip(parts, known[key], strict=True):
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        done.add(node.input[1])
    write_graph(after, target)
    return len(done)


def _rounded(
    weight: Array, packed: Array, scales: Array, zeros: Array, bits: Literal[4, 8]
) -> tuple[Array, Array, Array]:
    """Codes, scales and zero points of a matrix ``[in, out]`` as ``MatMulNBits`` has them."""
    outs, blocks, _ = packed.shape
    codes = _split(packed, bits)
    size = codes.shape[2]
    zero = _split(zeros.reshape(outs, -1), bits)
    padded = np.full((outs, blocks * size), np.nan, np.float32)
    padded[:, : len(weight)] = weight.T
    scale = scales.reshape(outs, blocks).astype(np.float32)
    at_once = max(1, _CHUNK // (blocks * size))
    for start in range(0, outs, at_once):
        part = slice(start, start + at_once)
        grid = Grid(
            codes=codes[part].reshape(-1, size).astype(np.float32),
            scale=scale[part].reshape(-1, 1),
            zero=zero[part, :blocks].reshape(-1, 1).astype(np.float32),
        )
        safe = Grid(codes=grid.codes, scale=np.where(grid.scale == 0, 1.0, grid.scale), zero=grid.zero)
        found = fit(padded[part].reshape(-1, size), safe, bits)
        codes[part] = found.codes.reshape(-1, blocks, size)
        scale[part] = found.scale.reshape(-1, blocks)
        zero[part, :blocks] = found.zero.reshape(-1, blocks)
    return (
        _joined(codes, bits),
        scale.astype(scales.dtype).reshape(scales.shape),
        _joined(zero, bits).reshape(zeros.shape),
    )


def _split(packed: Array, bits: Literal[4, 8]) -> Array:
    """Both numbers of each byte, the low half first; of 8 bits a copy."""
    if bits == 8:
        return packed.copy()
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def _joined(codes: Array, bits: Literal[4, 8]) -> NDArray[np.uint8]:
    codes = codes.astype(np.uint8)
    return codes if bits == 8 else np.asarray(codes[..., 0::2] | (codes[..., 1::2] << 4), np.uint8)
