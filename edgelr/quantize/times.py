"""How long the products of a package take on a device with each scheme: what ``auto`` chooses by.

Each shape is timed alone, with weights that the caches may hold from one call to the next. A model whose
weights are larger than these caches gains more by fewer bytes than this table says; products that are as fast
as others within noise therefore get the smaller scheme.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.progress import Progress
from edgelr.quantize.calibration import Data
from edgelr.quantize.fastest import SchemeTimes, Shape, write_scheme_times
from edgelr.quantize.graphs import Prepared, prepared_graphs
from edgelr.quantize.schemes import quantizer
from edgelr.quantize.static import Feeds
from edgelr.recipe.quantize import LayerScheme, Quantize
from edgelr.runtime.probe import open_probe, run_values
from edgelr.timing.kernel_graph import Kernel, write_kernel, write_stub
from edgelr.timing.rounds import Case, measure_rounds

SECONDS = 30.0  # measuring time, all shapes together, at most
_CASE_SECONDS = 0.6  # of one of them, at most
_STUB_SHARE = 0.1  # of the measuring time
_LOOKED_AT = 16  # calls that tell how many rows a layer multiplies
# Whatever else runs on the host only adds time: see ``plan/kernels.py``.
_PERCENTILE = 10
_LEAST_MS = 1e-6
_DECODER = "decoder"


def time_schemes(
    package: Package,
    settings: Quantize,
    schemes: Sequence[LayerScheme],
    device: Device,
    data: Data,
    folder: Path,
    progress: Progress,
) -> SchemeTimes:
    """Time every distinct shape of a package's products with each scheme.

    Args:
        package: In fp32.
        settings: The recipe's section.
        schemes: To time, at least one.
        device: Where; its evidence has to be ``run``.
        data: What tells how many rows a layer multiplies in a call: the median over calls. A decoder's is
            one, whatever it is calibrated on: it writes a token a call.
        folder: Where ``schemes.json`` is written.
        progress: Where to show how far it is.

    Raises:
        QuantizeError: A graph is quantized already, or has nothing to quantize.
        UnsupportedModelError: The process that times died or hangs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        graphs = prepared_graphs(package, Path(scratch))
        times = time_graphs(graphs, data.feeds, settings, schemes, device, Path(scratch), progress)
    write_scheme_times(times, folder)
    return times


def time_graphs(
    graphs: Mapping[str, Prepared],
    feeds: Mapping[str, Sequence[Feeds]],
    settings: Quantize,
    schemes: Sequence[LayerScheme],
    device: Device,
    scratch: Path,
    progress: Progress,
) -> SchemeTimes:
    """Time every distinct shape of the products of graphs, as ``time_schemes`` those of a package.

    Args:
        graphs: By role.
        feeds: By role, calls that tell how many rows a layer multiplies.
        settings: Its block size counts.
        schemes: To time, at least one.
        device: Where.
        scratch: A folder for graphs of single products.
        progress: Where to show how far it is.

    Raises:
        UnsupportedModelError: The process that times died or hangs.
    """
    layers = {
        role: product_shapes(graph, feeds[role], one_row=role == _DECODER) for role, graph in graphs.items()
    }
    shapes = list(dict.fromkeys(shape for named in layers.values() for shape in named.values()))
    ms = measure_shapes(shapes, schemes, settings.block_size, device, scratch, progress)
    return SchemeTimes(device=device.name, ms=ms, layers=layers)


def product_shapes(graph: Prepared, feeds: Sequence[Feeds], *, one_row: bool) -> dict[str, Shape]:
    """The shape of every product; those that read one value, which int8 quantizes once, share theirs.

    Args:
        graph: In fp32.
        feeds: Calls, at least one.
        one_row: Whether it is called with one row, other than the feeds.

    Returns:
        By name of the layer.
    """
    import onnx

    proto = onnx.load(graph.path, load_external_data=False).graph
    dims = {tensor.name: tuple(tensor.dims) for tensor in proto.initializer}
    products = [layer for layer in graph.layers if layer.kind == "product"]
    rows = dict.fromkeys((layer.input for layer in products), 1)
    if not one_row:
        rows = _rows(graph.path, list(rows), feeds)
    readers: dict[str, list[int]] = {}
    for layer in products:
        readers.setdefault(layer.input, []).append(dims[layer.matrix][1])
    return {
        layer.name: Shape(rows[layer.input], dims[layer.matrix][0], tuple(readers[layer.input]))
        for layer in products
    }


def _rows(path: Path, values: Sequence[str], feeds: Sequence[Feeds]) -> dict[str, int]:
    taken = min(len(feeds), _LOOKED_AT)
    few = [feeds[number * len(feeds) // taken] for number in range(taken)]
    inside = [name for name in values if name not in few[0]]
    session = open_probe(path, inside)
    found: dict[str, list[int]] = {name: [] for name in values}
    for given in few:
        for name, array in {**given, **run_values(session, inside, given)}.items():
            if name in found:
                found[name].append(array.size // array.shape[-1])
    return {name: max(1, statistics.median_low(counts)) for name, counts in found.items()}


def measure_shapes(
    shapes: Sequence[Shape],
    schemes: Sequence[LayerScheme],
    block_size: int,
    device: Device,
    scratch: Path,
    progress: Progress,
) -> dict[Shape, Mapping[LayerScheme, float]]:
    """Time shapes with schemes, all in the same rounds of one other process.

    Args:
        shapes: Each once.
        schemes: At least one.
        block_size: Weights that share a scale, of schemes that have blocks.
        device: Where.
        scratch: A folder for the graphs.
        progress: Where to show how far it is.

    Returns:
        Milliseconds: the 10th percentile of the calls, less that of the same graph without the products.
    """
    share = min(_CASE_SECONDS, SECONDS / max(1, len(shapes) * (len(schemes) + _STUB_SHARE)))
    cases = []
    for number, shape in enumerate(shapes):
        kernel, stub = Kernel(shape.in_, shape.outs, None), scratch / f"{number}.stub.onnx"
        inputs = write_stub(stub, kernel, shape.rows)
        cases.append(
            Case(name=f"{number}", opens={"model": str(stub)}, inputs=inputs, seconds=share * _STUB_SHARE)
        )
        plain = scratch / f"{number}.onnx"
        write_kernel(plain, kernel, shape.rows)
        for scheme in schemes:
            path = scratch / f"{number}.{scheme}.onnx"
            if scheme == "fp32":
                path.write_bytes(plain.read_bytes())
            else:
                quantizer(scheme, block_size)(plain, path)
            name = f"{number} {scheme}"
            cases.append(Case(name=name, opens={"model": str(path)}, inputs=inputs, seconds=share))
    if not cases:
        return {}
    rounds = measure_rounds(cases, device, progress, label="schemes")
    found = {name: float(np.percentile(times, _PERCENTILE)) for name, times in rounds.items()}
    return {
        shape: {
            scheme: max(_LEAST_MS, found[f"{number} {scheme}"] - found[f"{number}"])
            / Kernel(shape.in_, shape.outs, None).copies
            for scheme in schemes
        }
        for number, shape in enumerate(shapes)
    }
