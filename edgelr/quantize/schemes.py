"""Which function gives layers a scheme, by its name; and a graph whose layers have several."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from edgelr.quantize.a16w8 import quantize_wide
from edgelr.quantize.choice import Choices
from edgelr.quantize.dynamic import quantize_matrices
from edgelr.quantize.gelu import use_tanh
from edgelr.quantize.half import convert_to_half
from edgelr.quantize.hqq import use_half_quadratic
from edgelr.quantize.layers import Layer, prepare_layers
from edgelr.quantize.learned import Learned
from edgelr.quantize.static import Feeds, Method, quantize_static_matrices
from edgelr.quantize.weights import quantize_weights
from edgelr.recipe.quantize import LayerScheme, Rounding, Scheme

BLOCKED = ("weight-int8", "weight-int4")  # schemes whose weights come in blocks with a scale each
CALIBRATED = ("int8-static", "a16w8", "fp16")  # schemes that look at data
SMOOTHED = ("int8-dynamic", "int8-static")  # schemes with one scale of 8 bits for what a product reads
# In this order: ranges are measured of the fp32 graph, and what is half precision is none of the others'.
_ORDER: tuple[Scheme, ...] = ("int8-static", "a16w8", "int8-dynamic", "weight-int8", "weight-int4", "fp16")


@dataclass(frozen=True, kw_only=True)
class Means:
    """What schemes need besides a graph.

    Attributes:
        block_size: Weights that share a scale, of schemes that have blocks.
        feeds: Calibration data; empty where no scheme looks at any.
        method: How ranges of activations are found.
        rounding: Of weights in blocks.
        learned: What makes int8 and weight-int4 better; None without calibration data.
        whole: Whether fp16 is the scheme of the graph, not only of some layers: then all that flows is fp16.
    """

    block_size: int = 32
    feeds: Sequence[Feeds] = ()
    method: Method = "minmax"
    rounding: Rounding = "plain"
    learned: Learned | None = None
    whole: bool = False


def quantize_layers(
    source: Path, target: Path, layers: Sequence[Layer], choices: Choices, means: Means
) -> tuple[str, ...]:
    """Give each product the scheme that was chosen for it.

    Args:
        source: A graph as ``prepare_layers`` leaves it.
        target: Where to write the quantized one.
        layers: Of the graph; tables are left to ``vocabulary`` and ``blocks``, but for fp16.
        choices: By name of the layer.
        means: What schemes need.

    Returns:
        Nodes of ``source`` that were to be fp16 and stay fp32: fp16 cannot hold what they read or give.
    """
    import onnx

    from edgelr.lowrank.graph_file import write_graph

    original = {node.name for node in onnx.load(source, load_external_data=False).graph.node}
    islands: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory() as folder:
        last = narrowed(source, Path(folder), layers, choices, means.learned)
        for scheme in _ORDER:
            kinds = {"product", "table"} if scheme == "fp16" else {"product"}
            nodes = [
                each.name for each in layers if choices[each.name].scheme == scheme and each.kind in kinds
            ]
            after = Path(folder) / f"{scheme}.onnx"
            if scheme == "fp16" and (nodes or means.whole):
                found = convert_to_half(last, after, _of_half(original, layers, choices, means), means.feeds)
                islands = tuple(name for name in found if name in original)
            elif nodes:
                _apply(scheme, last, after, nodes, means)
            else:
                continue
            last = after
        # Weights of what no scheme has touched are in a file of their own still.
        proto = onnx.load(last)
        use_tanh(proto)
        write_graph(proto, target)
    return islands


def narrowed(
    source: Path, folder: Path, layers: Sequence[Layer], choices: Choices, learned: Learned | None
) -> Path:
    """Write the fp32 graph with what int8 products read made narrower; it computes the same.

    Args:
        source: A graph as ``prepare_layers`` leaves it.
        folder: Where to write.
        layers: Of the graph.
        choices: By name of the layer.
        learned: Of calibration data.

    Returns:
        The file; ``source`` itself without data, or where nothing becomes int8.
    """
    nodes = [each.name for each in layers if each.kind == "product" and choices[each.name].scheme in SMOOTHED]
    if learned is None or not nodes:
        return source
    learned.smoothing.smooth(source, folder / source.name, nodes)
    return folder / source.name


def _of_half(names: set[str], layers: Sequence[Layer], choices: Choices, means: Means) -> list[str]:
    """Nodes that become fp16: all but those of layers with another scheme, or only layers with this one."""
    chosen = {each.name for each in layers if choices[each.name].scheme == "fp16"}
    others = {each.name for each in layers} - chosen
    return sorted(names - others if means.whole else chosen)


def _apply(scheme: Scheme, source: Path, target: Path, nodes: Sequence[str], means: Means) -> None:
    match scheme:
        case "int8-dynamic":
            quantize_matrices(source, target, nodes)
        case "int8-static":
            quantize_static_matrices(source, target, nodes, means.feeds, means.method)
        case "a16w8":
            quantize_wide(source, target, nodes, means.feeds, means.method)
        case "weight-int8":
            _round_blocks(source, target, nodes, 8, means)
        case "weight-int4":
            _round_blocks(source, target, nodes, 4, means)
            if means.rounding == "compensated" and means.learned is not None:
                means.learned.rounding.improve(target, nodes)
        case "fp16":
            convert_to_half(source, target, nodes, means.feeds)
        case _:
            assert_never(scheme)


def _round_blocks(
    source: Path, target: Path, nodes: Sequence[str], bits: Literal[4, 8], means: Means
) -> None:
    quantize_weights(source, target, nodes, bits=bits, block_size=means.block_size)
    if means.rounding != "plain":
        known = None if means.learned is None else means.learned.grids
        use_half_quadratic(source, target, bits, known)


def quantizer(scheme: LayerScheme, block_size: int) -> Callable[[Path, Path], None]:
    """What gives every product of a graph one scheme, such as that of a kernel which is only timed.

    Args:
        scheme: As a recipe names it.
        block_size: Weights that share a scale, for the schemes that have blocks.

    Returns:
        ``quantize(source, target)``; ranges of activations are those of random numbers.
    """
    from edgelr.quantize.choice import Choice

    def quantize(source: Path, target: Path) -> None:
        import onnx

        proto = onnx.load(source)
        layers = prepare_layers(proto, source.name)
        choices = {layer.name: Choice(scheme=scheme) for layer in layers}
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / source.name
            onnx.save(proto, prepared)
            feeds = (_random_feeds(prepared),) if scheme in CALIBRATED else ()
            means = Means(block_size=block_size, feeds=feeds, whole=scheme == "fp16")
            quantize_layers(prepared, target, layers, choices, means)

    return quantize


def _random_feeds(path: Path) -> Feeds:
    from edgelr.runtime.graph import describe_graph
    from edgelr.timing.feeds import feeds
    from edgelr.timing.inputs import made_up_inputs

    graph = describe_graph(path)
    axes = {axis for entry in graph.inputs for axis in entry.shape if isinstance(axis, str)}
    return feeds(made_up_inputs(path, graph, dict.fromkeys(axes, 16)))
