"""ReLU in place of GELU, with the product after it fitted to what GELU gave.

GELU takes half as long as the product before it, and what it gives may have to be narrowed by another pass.
ReLU takes a quarter of that, and whatever divides its output may divide its input. The two differ by less
than 0.17, but in every channel. So relu(x + shift) stands for gelu(x), and the matrix W behind it becomes
W + D: D is the least squares fit of (gelu(x) - relu(x + shift)) W by relu(x + shift) over the tokens of
calibration data, with a penalty on its size; what is left of the mean goes into the bias. Nothing is trained.

Source:
    The fit is ridge regression of what a replaced layer loses, as in Frantar and Alistarh, Optimal Brain
    Compression (NeurIPS 2022), of activations in place of weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.artifacts import Package
from edgelr.errors import DataError, QuantizeError
from edgelr.progress import Progress
from edgelr.quantize.calibration import Data
from edgelr.quantize.gelu_sites import Site, find_sites
from edgelr.quantize.graphs import Prepared, prepared_graphs
from edgelr.quantize.static import Feeds
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.probe import open_probe, run_values

# Of 0, 0.1, 0.2 and 0.3, what lost least on tokens that were not fitted was 0.1 to 0.2.
_SHIFT = 0.15
_PENALTY = 0.1  # of the median channel's energy
_ROWS = 1024  # tokens that are added up at once
_NUMBERS = 2**27  # of all sums that are held at once: a gigabyte
_MASK = "attention_mask"

Array = NDArray[Any]


@dataclass(kw_only=True)
class _Sums:
    """Over tokens: of what ReLU gives (r), of what that misses (e), and of the product as it was (t)."""

    r: Array
    e: Array
    rr: Array
    re: Array
    ee: float = 0.0
    t: Array
    tt: float = 0.0
    tokens: int = 0

    @classmethod
    def of(cls, width: int, out: int) -> _Sums:
        """Of no tokens."""
        r, e, rr, re, t = (np.zeros(shape) for shape in (width, out, (width, width), (width, out), out))
        return cls(r=r, e=e, rr=rr, re=re, t=t)

    def add(self, read: Array, product: Array, matrix: Array) -> None:
        given = np.maximum(read + _SHIFT, 0)
        missed = product - given @ matrix
        self.tokens += len(read)
        self.r += given.sum(axis=0)
        self.e += missed.sum(axis=0)
        self.rr += given.T @ given
        self.re += given.T @ missed
        self.ee += float(np.square(missed).sum())
        self.t += product.sum(axis=0)
        self.tt += float(np.square(product).sum())

    def fit(self) -> tuple[Array, Array, float]:
        """What to add to the matrix, and to the product, and the share of its variance that is lost then."""
        count = self.tokens
        alike = self.rr - np.outer(self.r, self.r) / count
        missed = self.re - np.outer(self.r, self.e) / count
        energy = np.diag(alike)
        penalty = _PENALTY * (np.median(energy) or energy.mean() or 1.0)
        added = np.linalg.solve(alike + penalty * np.eye(len(alike)), missed)
        offset = (self.e - self.r @ added) / count
        left = self.ee - np.square(self.e).sum() / count + np.sum(added * (alike @ added - 2 * missed))
        whole = self.tt - np.square(self.t).sum() / count
        return added, offset, float(left / whole) if whole > 0 else 0.0


def prepared_for(
    package: Package, settings: Quantize, data: Data | None, scratch: Path, progress: Progress
) -> dict[str, Prepared]:
    """By role, the graphs that are quantized, with the activations that were asked for.

    Args:
        package: In fp32.
        settings: The recipe's section.
        data: What ReLU is fitted on; there is some where it was asked for.
        scratch: Where to write.
        progress: Where to say what ReLU loses.

    Raises:
        DataError: There are too few tokens to fit to.
        QuantizeError: A graph cannot be quantized, or none has a GELU that ReLU can replace.
    """
    graphs = prepared_graphs(package, scratch)
    if settings.activations == "kept":
        return graphs
    assert data is not None
    found = {}
    for role, graph in graphs.items():
        found[role], lost = rectified(graph, data.feeds[role])
        if lost:
            said = (
                f"{len(lost)} GELU are ReLU now; of the products after them {max(lost):.2%} is lost at most"
            )
            progress.note(f"{graph.name}: {said}")
    if all(found[role] is graph for role, graph in graphs.items()):
        raise QuantizeError(
            f"quantize.activations: relu: {package.name} has no GELU between two products with biases",
            "leave it out",
        )
    return found


def rectified(graph: Prepared, feeds: Sequence[Feeds]) -> tuple[Prepared, tuple[float, ...]]:
    """A graph with ReLU where GELU was between two products.

    Args:
        graph: In fp32.
        feeds: Calibration data, a call an entry.

    Returns:
        The same graph where there is none; and, of each, the share of the next product's variance that is
        lost on this data.

    Raises:
        DataError: There are fewer than two tokens for each channel of one.
    """
    import onnx

    proto = onnx.load(graph.path)
    sites = find_sites(proto.graph)
    if not sites:
        return graph, ()
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    lost = tuple(_refit(site, sums, weights) for site, sums in _gathered(graph.path, sites, weights, feeds))
    places = {site.gelu for site in sites}
    for node in proto.graph.node:
        if node.output[0] in places:
            node.op_type = "Relu"
            del node.attribute[:]
    target = graph.path.parent / "relu" / graph.path.name
    target.parent.mkdir()
    onnx.save(proto, target, save_as_external_data=True, location=f"{target.name}.data")
    return replace(graph, path=target), lost


def _refit(site: Site, sums: _Sums, weights: Mapping[str, Any]) -> float:
    """Change the constants around a site in place; what is lost."""
    if sums.tokens < 2 * len(sums.r):
        raise DataError(
            f"activations: relu: calibration data has {sums.tokens} tokens for {len(sums.r)} channels",
            "give two for each at least, or leave it out",
        )
    added, offset, lost = sums.fit()
    _add(weights[site.matrix], added)
    _add(weights[site.bias], _SHIFT)
    _add(weights[site.after], offset if site.second is None else offset @ _array(weights[site.second]))
    return lost


def _array(tensor: Any) -> Array:  # noqa: ANN401 - onnx is not typed
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(tensor))


def _add(tensor: Any, array: Array | float) -> None:  # noqa: ANN401 - onnx is not typed
    from onnx import numpy_helper

    tensor.CopyFrom(numpy_helper.from_array((_array(tensor) + array).astype(np.float32), tensor.name))


def _gathered(
    path: Path, sites: Sequence[Site], weights: Mapping[str, Any], feeds: Sequence[Feeds]
) -> Iterator[tuple[Site, _Sums]]:
    """Run the graph of a file, as often as memory asks for; ``weights`` may change meanwhile."""
    left = list(sites)
    while left:
        width = weights[left[0].matrix].dims[0]
        some = left[: max(1, _NUMBERS // width**2)]
        left = left[len(some) :]
        yield from zip(
            some, _sums(path, [(each, _array(weights[each.matrix])) for each in some], feeds), strict=True
        )


def _sums(path: Path, sites: Sequence[tuple[Site, Array]], feeds: Sequence[Feeds]) -> list[_Sums]:
    """What is to be known of each site, given with its matrix."""
    values = [name for site, _ in sites for name in (site.read, site.product)]
    session = open_probe(path, values)
    found = [_Sums.of(*matrix.shape) for _, matrix in sites]
    waiting: dict[str, list[Array]] = {name: [] for name in values}
    for number, given in enumerate(feeds, start=1):
        for name, array in run_values(session, values, given).items():
            waiting[name].append(_tokens(array, given))
        if number < len(feeds) and sum(map(len, waiting[values[0]])) < _ROWS:
            continue
        for (site, matrix), sums in zip(sites, found, strict=True):
            read, product = (np.concatenate(waiting[name]) for name in (site.read, site.product))
            sums.add(read, product, matrix)
        waiting = {name: [] for name in values}
    return found


def _tokens(array: Array, given: Feeds) -> Array:
    """Those that are there, ``[tokens, channels]``: padding is not fitted to."""
    mask = given.get(_MASK)
    if mask is not None and mask.shape == array.shape[:-1]:
        return np.asarray(array[np.asarray(mask, bool)])
    return array.reshape(-1, array.shape[-1])
