"""One graph: prepared once, then quantized with any choice of schemes for its layers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelr.artifacts import Graph, Package
from edgelr.errors import DamagedArtifactError, QuantizeError
from edgelr.lowrank.rotate import rotate_inner
from edgelr.quantize.blocks import Bits, Blocks, quantize_shared_tables
from edgelr.quantize.choice import Choices
from edgelr.quantize.constants import large_constants, store_as_int8
from edgelr.quantize.dynamic import unquantized_matrices
from edgelr.quantize.layers import Layer, prepare_layers
from edgelr.quantize.learned import Learned
from edgelr.quantize.schemes import BLOCKED, Means, quantize_layers
from edgelr.quantize.static import Feeds
from edgelr.quantize.vocabulary import quantize_tables
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.graph import run_errors
from edgelr.runtime.package import FEATURES, model_path
from edgelr.runtime.subgraphs import read_inside, subgraphs

_QUANTIZED = frozenset(
    {"MatMulInteger", "QLinearMatMul", "MatMulNBits", "DynamicQuantizeLinear", "QuantizeLinear"}
    | {"DequantizeLinear", "ConvInteger", "QLinearConv", "GatherBlockQuantized", "DynamicQuantizeMatMul"}
    | {"QAttention", "QGemm", "QLinearAdd", "MatMulIntegerToFloat", "MatMulBnb4", "QEmbedLayerNormalization"}
)
_LEAST_OPSET = 13  # the first whose DequantizeLinear has a scale a channel


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An fp32 graph that equals the one it was made of, and its layers.

    Attributes:
        path: Its file; weights are in another one beside it.
        name: Of the graph it was made of, for errors.
        layers: In the order of the nodes.
    """

    path: Path
    name: str
    layers: tuple[Layer, ...]


def prepare_graph(source: Path, folder: Path) -> Prepared:
    """Write a graph whose layers have names and whose factors quantize well; in fp32 nothing changes.

    Args:
        source: An fp32 graph; its weights may be in files beside it.
        folder: Where to write, as ``source`` is called.

    Raises:
        QuantizeError: It is quantized or fused already, has no layers, or is too old for quantization.
        DamagedArtifactError: Weights in files of their own are missing, or not beside it.
    """
    import onnx

    _check_fp32(source)
    try:
        loaded = onnx.load(source)
    except (OSError, onnx.checker.ValidationError) as error:
        raise DamagedArtifactError(
            f"{source}: its weights cannot be read: {error}", "they are in files beside it: get all of them"
        ) from error
    proto = _raised(loaded, source.name)
    rotate_inner(proto)
    layers = prepare_layers(proto, source.name)
    if not layers and not large_constants(proto, read_inside(proto.graph)):
        raise QuantizeError(
            f"{source.name} has nothing to quantize: no product with a constant fp32 matrix, and no table",
            "a graph in fp16 has none either: quantize the fp32 graph that it was made of",
        )
    path = folder / source.name
    # Weights in a file of their own: one file of a graph ends at 2 GiB.
    onnx.save(proto, path, save_as_external_data=True, location=f"{source.name}.data")
    return Prepared(path=path, name=source.name, layers=layers)


def prepared_graphs(package: Package, scratch: Path) -> dict[str, Prepared]:
    """By role, the graphs that are quantized, written into folders of their own.

    Raises:
        QuantizeError: One is quantized or fused already, has no layers, or is too old for quantization.
    """
    found = {}
    for role in quantized_graphs(package):
        (scratch / role).mkdir()
        found[role] = prepare_graph(model_path(package, role), scratch / role)
    return found


def quantized_graphs(package: Package) -> dict[str, Graph]:
    """By role, the graphs that are quantized: of sound, the signal processing stays as it is.

    16-bit samples have a range that 8 bits have not.
    """
    return {role: graph for role, graph in package.graphs.items() if role != FEATURES}


def quantize_prepared(
    graph: Prepared,
    target: Path,
    choices: Choices,
    settings: Quantize,
    feeds: Sequence[Feeds],
    learned: Learned | None = None,
) -> tuple[str, ...]:
    """Quantize the matrices and the tables of one graph.

    Args:
        graph: As ``prepare_graph`` gives it.
        target: Where to write the quantized one.
        choices: By name of the layer.
        settings: The recipe's section.
        feeds: Calibration data, where a scheme looks at any.
        learned: What calibration data tells of this graph; None for plain rounding.

    Returns:
        Layers that were to be fp16 and stay fp32.

    Raises:
        QuantizeError: It cannot be, or a matrix stayed fp32 that was not to.
    """
    import onnx

    from edgelr.lowrank.graph_file import write_graph

    means = Means(
        block_size=settings.block_size,
        feeds=feeds,
        method=settings.calibration,
        rounding=settings.rounding,
        learned=learned,
        whole=settings.scheme == "fp16",
    )
    with tempfile.TemporaryDirectory() as folder, _as_quantize_errors(graph.name):
        path = graph.path
        proto = onnx.load(path)
        if _share_tables(proto, graph.layers, choices, settings):
            path = Path(folder) / graph.path.name
            onnx.save(proto, path, save_as_external_data=True, location=f"{path.name}.data")
        names = {node.name for node in proto.graph.node}
        left = [layer for layer in graph.layers if layer.name in names]
        islands = quantize_layers(path, target, left, choices, means)
    proto = onnx.load(target)
    kept = {each.matrix for each in graph.layers if choices[each.name].scheme in {"fp32", "fp16"}}
    quantize_tables(proto, kept)
    kept |= read_inside(proto.graph)
    if missed := [name for name in unquantized_matrices(proto) if name not in kept]:
        raise QuantizeError(f"{graph.name}: {len(missed)} matrices stayed fp32: {', '.join(missed[:5])}")
    if settings.scheme != "fp16":
        store_as_int8(proto, kept)
    _strip(proto)
    write_graph(proto, target)
    return islands


def _share_tables(proto: Any, layers: Sequence[Layer], choices: Choices, settings: Quantize) -> int:  # noqa: ANN401
    """Put tables into blocks, and the heads that share them, where that was chosen for all their readers."""
    if settings.scheme == "fp16":
        return 0
    schemes: dict[str, set[str]] = {}
    for layer in layers:
        schemes.setdefault(layer.matrix, set()).add(choices[layer.name].scheme)
    chosen = {
        matrix
        for matrix, found in schemes.items()
        if not found & {"fp32", "fp16"} and (settings.vocabulary or found & set(BLOCKED))
    }
    bits: Bits = 4 if settings.vocabulary == "int4" else 8
    return quantize_shared_tables(proto, Blocks(bits=bits, size=settings.block_size), chosen)


def _check_fp32(source: Path) -> None:
    import onnx

    graph = onnx.load(source, load_external_data=False).graph
    nodes = [*graph.node, *(node for _, inner in subgraphs(graph) for node in inner.node)]
    if done := sorted({node.op_type for node in nodes} & _QUANTIZED):
        raise QuantizeError(
            f"{source.name} is quantized already: it has {', '.join(done)}", "quantize the fp32 graph"
        )
    if not nodes:
        raise QuantizeError(f"{source.name} has nothing to quantize: the graph is empty")


def _raised(proto: Any, name: str) -> Any:  # noqa: ANN401 - onnx is not typed
    """The graph with operators of an opset that has what quantization needs."""
    import onnx

    opset = max((entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}), default=0)
    if opset >= _LEAST_OPSET:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, _LEAST_OPSET)
    except (RuntimeError, ValueError) as error:
        raise QuantizeError(
            f"{name} has opset {opset}, quantization needs {_LEAST_OPSET}, and onnx cannot raise it: {error}",
            f"export the graph again with opset {_LEAST_OPSET} or later",
        ) from error


def _failures() -> tuple[type[Exception], ...]:
    return (ValueError, RuntimeError, KeyError, *run_errors())


@contextmanager
def _as_quantize_errors(name: str) -> Iterator[None]:
    """What ONNX Runtime's quantizers raise, as an error of this program."""
    try:
        yield
    except _failures() as error:
        raise QuantizeError(
            f"{name}: ONNX Runtime cannot quantize the graph: {error}", "leave the section out"
        ) from error


def _strip(proto: Any) -> None:  # noqa: ANN401 - onnx is not typed
    """Leave out what the quantizer notes about itself: shapes it inferred, its name and version."""
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
    for tensor in proto.graph.initializer:
        tensor.ClearField("data_location")  # set where it was in a file of its own once; it is inside now
    proto.producer_name, proto.producer_version = "edgelr", ""
