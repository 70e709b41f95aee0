"""Stage quantize: Package -> Package."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from edgelr.artifacts import Package
from edgelr.errors import QuantizeError
from edgelr.lowrank.rotate import rotate_inner
from edgelr.progress import Progress
from edgelr.quantize.blocks import Bits, Blocks, quantize_shared_tables
from edgelr.quantize.compare import compare_with_fp32
from edgelr.quantize.constants import store_as_int8
from edgelr.quantize.dynamic import unquantized_matrices
from edgelr.quantize.schemes import BLOCKED, quantizer
from edgelr.quantize.vocabulary import quantize_tables
from edgelr.recipe.schema import Quantize
from edgelr.runtime.graph import describe_graph
from edgelr.runtime.package import FEATURES, model_path, seal_package
from edgelr.runtime.shared_weights import WEIGHTS, share_weights

_QUANTIZED = frozenset(
    {"MatMulInteger", "QLinearMatMul", "MatMulNBits", "DynamicQuantizeLinear", "QuantizeLinear"}
    | {"DequantizeLinear", "ConvInteger", "QLinearConv", "GatherBlockQuantized", "DynamicQuantizeMatMul"}
)


def quantize(package: Package, settings: Quantize, folder: Path, progress: Progress) -> Package:
    """Quantize every graph of a package.

    Args:
        package: An fp32 package; not changed.
        settings: The recipe's section.
        folder: Where the quantized package is written.
        progress: Where to show how far it is.

    Raises:
        QuantizeError: The package is quantized already, a matrix stayed fp32, a graph cannot be quantized, or
            an output is too far from fp32.
    """
    if package.precision != "fp32":
        raise QuantizeError(
            f"{package.folder} is {package.precision} already", "quantize the fp32 package it was made of"
        )
    # Of sound, the signal processing stays as it is: 16-bit samples have a range that 8 bits have not.
    quantized = {role: graph.file for role, graph in package.graphs.items() if role != FEATURES}
    graphs = set(quantized.values())
    for file in package.files:
        if file.removesuffix(".data") not in graphs and file != WEIGHTS:
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(package.folder / file, folder / file)
    for role, file in quantized.items():
        quantize_graph(model_path(package, role), folder / file, settings)
    if len(quantized) > 1:
        saved = share_weights([folder / file for file in quantized.values()])
        progress.note(f"{saved / 1e6:.2f} MB that the graphs have in common are stored once")
    for role, cosine in compare_with_fp32(package, folder, progress).items():
        graph = package.graphs[role]
        progress.note(f"{graph.file}: {settings.scheme}, cosine {cosine:.4f} to fp32")
        if not cosine >= settings.min_cosine:
            raise QuantizeError(
                f"{graph.file}: the mean cosine of {settings.scheme} to fp32 is {cosine:.4f}, "
                f"quantize.min_cosine is {settings.min_cosine}",
                "leave the section out to keep fp32, or accept the loss with a lower min_cosine",
            )
    return seal_package(
        folder,
        name=package.name,
        task=package.task,
        graphs={role: describe_graph(folder / graph.file) for role, graph in package.graphs.items()},
        precision=settings.scheme,
        cost=package.cost,
        settings=package.settings,
        source=package.source,
        gates=package.gates,
        accuracy={},
    )


def quantize_graph(source: Path, target: Path, settings: Quantize) -> None:
    """Quantize the matrices and the tables of one graph.

    Args:
        source: The fp32 graph.
        target: Where to write the quantized one.
        settings: The scheme.

    Raises:
        QuantizeError: It is quantized already, cannot be, or a matrix stayed fp32.
    """
    import onnx

    _check_fp32(source)
    try:
        _turn_and_quantize(source, target, settings)
    except (ValueError, RuntimeError, KeyError) as error:
        raise QuantizeError(
            f"{source.name}: ONNX Runtime cannot quantize the graph: {error}", "leave the section out"
        ) from error
    proto = onnx.load(target)
    quantize_tables(proto)
    if left := unquantized_matrices(proto):
        raise QuantizeError(f"{source.name}: {len(left)} matrices stayed fp32: {', '.join(left[:5])}")
    store_as_int8(proto)
    _strip(proto)
    target.write_bytes(proto.SerializeToString(deterministic=True))


def _check_fp32(source: Path) -> None:
    import onnx

    nodes = onnx.load(source, load_external_data=False).graph.node
    if done := sorted({node.op_type for node in nodes} & _QUANTIZED):
        raise QuantizeError(
            f"{source.name} is quantized already: it has {', '.join(done)}", "quantize the fp32 graph"
        )
    if not nodes:
        raise QuantizeError(f"{source.name} has nothing to quantize: the graph is empty")


def _turn_and_quantize(source: Path, target: Path, settings: Quantize) -> None:
    import onnx

    proto = onnx.load(source)
    rotate_inner(proto)  # for any scheme: in fp32 nothing changes
    if settings.vocabulary or settings.scheme in BLOCKED:
        bits: Bits = 4 if settings.vocabulary == "int4" else 8
        quantize_shared_tables(proto, Blocks(bits=bits, size=settings.block_size))
    with tempfile.TemporaryDirectory() as folder:
        turned = Path(folder) / source.name
        # Weights in a file of their own: one file of a graph ends at 2 GiB.
        onnx.save(proto, turned, save_as_external_data=True, location=f"{source.name}.data")
        quantizer(settings.scheme, settings.block_size)(turned, target)


def _strip(proto: Any) -> None:  # noqa: ANN401 - onnx is not typed
    """Leave out what the quantizer notes about itself: shapes it inferred, its name and version."""
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    proto.producer_name, proto.producer_version = "edgelr", ""
