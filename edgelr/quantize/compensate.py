"""Error-compensated rounding for ``weight-int4``: each weight makes up for the rounding of those before it.

Plain rounding takes each weight for itself. What counts is the product with inputs as the layer really sees
them: where these are correlated, the others can take back the error of one weight. The grid (scales and zero
points of the blocks) stays that of ONNX Runtime's quantizer; only the codes change. Whether that helps is
measured on calls that the statistics were not gathered on: where it does not, the plain codes stay.

Source:
    Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers (ICLR
    2023), with the order of "act-order": inputs with the most energy first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.quantize.static import Feeds
from edgelr.runtime.probe import open_probe, run_values

Array = NDArray[Any]
Matrix = NDArray[np.float64]

_DAMPING = 0.01  # of the mean energy of an input
_HELD_OUT = 4  # one call of so many
_LARGEST_CODE = 15
_CHUNK = 128  # inputs whose errors are handed on together
_MEMORY = 2**29  # bytes of Gram matrices at a time; the graph is run once for each such part


class Rounding:
    """The better codes of a graph's products, found once for each: accuracy control quantizes many times.

    Args:
        source: The fp32 graph.
        feeds: Calibration data, at least one call.
    """

    def __init__(self, source: Path, feeds: Sequence[Feeds]) -> None:
        self._source, self._feeds = source, feeds
        self._codes: dict[str, Array | None] = {}  # by node; None where the plain ones are better

    def improve(self, target: Path, nodes: Sequence[str]) -> int:
        """Round the 4-bit weights of a quantized graph anew, in place.

        Args:
            target: A graph of which some products became ``MatMulNBits`` of 4 bits.
            nodes: Names of these products in the fp32 graph. Blocks must be as they were in calls before.

        Returns:
            How many of them are better for it.
        """
        import onnx
        from onnx import numpy_helper

        from edgelr.lowrank.graph_file import write_graph

        before, after = (onnx.load(path) for path in (self._source, target))
        packed = {tensor.name: tensor for tensor in after.graph.initializer}
        blocked = {node.output[0]: node for node in after.graph.node if node.op_type == "MatMulNBits"}
        products = {
            node.name: node
            for node in before.graph.node
            if node.name in set(nodes) and node.output[0] in blocked
        }
        grids = {
            name: _Grid(*(numpy_helper.to_array(packed[part]) for part in blocked[node.output[0]].input[1:4]))
            for name, node in products.items()
        }
        self._find(before.graph, {name: grid for name, grid in grids.items() if name not in self._codes})
        better = 0
        for name, node in products.items():
            codes = self._codes[name]
            if codes is not None:
                tensor = packed[blocked[node.output[0]].input[1]]
                tensor.CopyFrom(numpy_helper.from_array(grids[name].pack(codes), tensor.name))
                better += 1
        write_graph(after, target)
        return better

    def _find(self, graph: Any, grids: Mapping[str, _Grid]) -> None:  # noqa: ANN401 - onnx is not typed
        from onnx import numpy_helper

        weights = {tensor.name: tensor for tensor in graph.initializer}
        products = [node for node in graph.node if node.name in grids]
        read = {node.input[0]: int(weights[node.input[1]].dims[0]) for node in products}
        for grams in _grams(self._source, read, self._feeds):
            for node in products:
                if node.input[0] in grams:
                    weight = np.asarray(numpy_helper.to_array(weights[node.input[1]]), np.float64)
                    self._codes[node.name] = _better(grids[node.name], weight, *grams[node.input[0]])


def _better(grid: _Grid, weight: Matrix, fitted: Matrix, held_out: Matrix) -> Array | None:
    rounded = grid.rounded(weight, fitted)
    plain, found = (
        _error(weight - grid.values(codes, len(weight)), held_out) for codes in (grid.codes, rounded)
    )
    return rounded if found < plain else None


def _grams(
    source: Path, read: Mapping[str, int], feeds: Sequence[Feeds]
) -> Iterator[dict[str, tuple[Matrix, Matrix]]]:
    """Input -> its Gram matrices ``[in, in]``, of most calls and of those held out; some inputs at a time."""
    parts: list[list[str]] = [[]]
    for name, size in read.items():
        if parts[-1] and sum(16 * read[each] ** 2 for each in parts[-1]) + 16 * size**2 > _MEMORY:
            parts.append([])
        parts[-1].append(name)
    inputs = set(feeds[0])
    for names in parts if read else ():
        grams = {name: (np.zeros((read[name],) * 2), np.zeros((read[name],) * 2)) for name in names}
        inside = [name for name in names if name not in inputs]
        session = open_probe(source, inside)
        for number, given in enumerate(feeds):
            values = {**given, **run_values(session, inside, given)}
            alone = len(feeds) < _HELD_OUT  # too few to hold any out
            held_out = number % _HELD_OUT == _HELD_OUT - 1
            for name in names:
                rows = np.asarray(values[name], np.float64).reshape(-1, read[name])
                gram = rows.T @ rows
                for at, wanted in enumerate((not held_out, held_out)):
                    if wanted or alone:
                        grams[name][at][...] += gram
        yield grams


class _Grid:
    """The numbers that a block's codes stand for, ``scale * (code - zero)``.

    Args:
        packed: Codes as ``MatMulNBits`` has them, ``[out, blocks, bytes]``.
        scales: ``[out, blocks]``.
        zeros: Two to a byte, ``[out, bytes]``.

    Attributes:
        codes: ``[in and what fills the last block, out]``.
    """

    def __init__(self, packed: Array, scales: Array, zeros: Array) -> None:
        out, blocks, size = packed.shape
        self.codes = _halves(packed).reshape(out, blocks * size * 2).T
        scales = np.asarray(scales, np.float64).reshape(out, blocks)
        zero = _halves(zeros.reshape(out, -1))[:, :blocks].astype(np.float64)
        self._scale = np.repeat(scales, 2 * size, axis=1).T
        self._zero = np.repeat(zero, 2 * size, axis=1).T
        self._shape = (out, blocks, size)

    def values(self, codes: Array, rows: int) -> Matrix:
        """What the codes of so many inputs stand for."""
        return np.asarray((self._scale * (codes - self._zero))[:rows])

    def rounded(self, weight: Matrix, gram: Matrix) -> Array:
        """Codes of a weight ``[in, out]`` whose errors make up for each other."""
        rows = len(weight)
        order = np.argsort(-gram.diagonal(), kind="stable")
        factor = _factor(gram[np.ix_(order, order)])
        scale, zero = self._scale[:rows][order], self._zero[:rows][order]
        left, found = weight[order].copy(), np.zeros(weight.shape, np.uint8)
        for start in range(0, rows, _CHUNK):
            end = min(start + _CHUNK, rows)
            errors = np.zeros((end - start, weight.shape[1]))
            for row in range(start, end):
                step = np.where(scale[row] == 0, 1.0, scale[row])
                code = np.clip(np.rint(left[row] / step + zero[row]), 0, _LARGEST_CODE)
                found[row] = code
                errors[row - start] = (left[row] - scale[row] * (code - zero[row])) / factor[row, row]
                left[row + 1 : end] -= np.outer(factor[row, row + 1 : end], errors[row - start])
            left[end:] -= factor[start:end, end:].T @ errors
        codes = self.codes.copy()
        codes[order] = found
        return codes

    def pack(self, codes: Array) -> NDArray[np.uint8]:
        """Codes as ``MatMulNBits`` has them."""
        pairs = np.ascontiguousarray(codes.T).reshape(*self._shape, 2).astype(np.uint8)
        return np.asarray(pairs[..., 0] | (pairs[..., 1] << 4), np.uint8)


def _halves(packed: Array) -> Array:
    """Both numbers of each byte, the low half first: the last axis becomes twice as long."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def _factor(gram: Matrix) -> Matrix:
    """Upper triangular root of the inverse of a damped Gram matrix: how errors are handed on."""
    size = len(gram)
    damped = gram + max(float(np.trace(gram)) / size * _DAMPING, 1e-12) * np.eye(size)
    inverse = np.linalg.inv(damped)
    return np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T)


def _error(difference: Matrix, gram: Matrix) -> float:
    """Squared error of the layer's output over the calls of the Gram matrix."""
    return float(np.einsum("io,ij,jo->", difference, gram, difference, optimize=True))
