"""Scheme ``auto``: for each layer the scheme that is fastest on a device, from measured times.

Which one that is depends on the shape: int8 wins where many rows are multiplied at once, as in an encoder;
blocks of weights where there is one, as in a decoder, whose time is that of reading its bytes. The smallest
layers are fastest as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelr.artifact_files import read_json, write_json
from edgelr.errors import DamagedArtifactError, QuantizeError
from edgelr.quantize.choice import BITS, Choice, Choices
from edgelr.quantize.layers import Layer
from edgelr.recipe.quantize import TIMED, LayerScheme

FILE = "schemes.json"
# Of 75 kernels timed twice on an idle host, half differed by 0.3 %, one in ten by 1 %, the worst by 3 %.
NOISE = 0.05


@dataclass(frozen=True)
class Shape:
    """Products of one value by one or more matrices, as they are timed.

    Attributes:
        rows: Of the value, all its axes but the last.
        in_: The last one.
        outs: Width of each product.
    """

    rows: int
    in_: int
    outs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SchemeTimes:
    """What was measured, for all graphs of a package.

    Attributes:
        device: The profile's name.
        ms: Shape -> scheme -> milliseconds.
        layers: Role -> layer -> its shape, of every product.
    """

    device: str
    ms: Mapping[Shape, Mapping[LayerScheme, float]]
    layers: Mapping[str, Mapping[str, Shape]]

    @property
    def schemes(self) -> tuple[LayerScheme, ...]:
        """Those that were timed: what the device takes."""
        return tuple(dict.fromkeys(scheme for times in self.ms.values() for scheme in times))


def fastest_scheme(ms: Mapping[LayerScheme, float]) -> LayerScheme:
    """The fastest; of those that noise does not tell from it, that of the fewest bytes.

    Args:
        ms: Scheme -> milliseconds, at least one.
    """
    limit = min(ms.values()) * (1 + NOISE)
    return min((each for each in ms if ms[each] <= limit), key=lambda each: (BITS[each], TIMED.index(each)))


def fastest_choices(layers: Sequence[Layer], role: str, times: SchemeTimes) -> dict[str, Choice]:
    """What auto makes of the layers of a graph.

    A table is looked up, not multiplied, and takes no time that counts. It is stored as the product that
    shares its matrix, or in the fewest bytes that cost no accuracy, int8.

    Args:
        layers: Of the graph.
        role: Its role.
        times: Measured.
    """
    found = {
        layer.name: _choice(times.ms[times.layers[role][layer.name]], times.device)
        for layer in layers
        if layer.kind == "product"
    }
    shared = {layer.matrix: found[layer.name].scheme for layer in layers if layer.kind == "product"}
    least: LayerScheme = next((each for each in TIMED if each in times.schemes), "fp32")
    for layer in layers:
        if layer.kind == "table":
            scheme = shared.get(layer.matrix, least)
            found[layer.name] = Choice(scheme=scheme, reason="looked up, which takes no time")
    return found


def _choice(ms: Mapping[LayerScheme, float], device: str) -> Choice:
    scheme = fastest_scheme(ms)
    if ms[scheme] > min(ms.values()):
        return Choice(scheme=scheme, reason=f"as fast as any on {device}, and smaller")
    return Choice(scheme=scheme, reason=f"fastest on {device}")


def main_scheme(layers: Iterable[tuple[Layer, Choices]], device: str) -> LayerScheme:
    """What most numbers of a package have become: what it is called.

    Args:
        layers: Every layer, with the choices of its graph.
        device: What an error names.

    Raises:
        QuantizeError: All of them stay fp32.
    """
    numbers: dict[LayerScheme, int] = {}
    for layer, choices in layers:
        scheme = choices[layer.name].scheme
        numbers[scheme] = numbers.get(scheme, 0) + layer.numbers
    numbers.pop("fp32", None)
    if not numbers:
        raise QuantizeError(
            f"quantize.scheme: auto leaves every layer fp32, which is fastest on {device} or was to be kept",
            "leave the section out, or name a scheme for the bytes that it saves",
        )
    return max(numbers, key=lambda scheme: (numbers[scheme], scheme))


def facts_of_times(times: SchemeTimes) -> dict[str, Any]:
    """What a report shows: a row a shape, with what is fastest; most products first."""
    count: dict[Shape, int] = {}
    for shapes in times.layers.values():
        for shape in shapes.values():
            count[shape] = count.get(shape, 0) + 1
    rows = [
        {
            "rows": shape.rows,
            "in": shape.in_,
            "outs": list(shape.outs),
            "layers": count.get(shape, 0),
            "ms": {scheme: float(f"{value:.3g}") for scheme, value in times.ms[shape].items()},
            "scheme": fastest_scheme(times.ms[shape]),
        }
        for shape in sorted(times.ms, key=lambda each: (-count.get(each, 0), each.rows, each.in_, each.outs))
    ]
    return {"device": times.device, "noise": NOISE, "shapes": rows}


def write_scheme_times(times: SchemeTimes, folder: Path) -> None:
    """Write ``schemes.json``."""
    shapes = list(times.ms)
    document = {
        "device": times.device,
        "shapes": [{**vars(shape), "ms": dict(times.ms[shape])} for shape in shapes],
        "layers": {
            role: {name: shapes.index(shape) for name, shape in named.items()}
            for role, named in times.layers.items()
        },
    }
    write_json(folder / FILE, document)


def read_scheme_times(folder: Path) -> SchemeTimes:
    """Open a folder that ``write_scheme_times`` wrote.

    Raises:
        DamagedArtifactError: schemes.json is missing, is not JSON, or has another layout.
    """
    document = read_json(folder / FILE)
    try:
        shapes = [Shape(row["rows"], row["in_"], tuple(row["outs"])) for row in document["shapes"]]
        times = [row["ms"] for row in document["shapes"]]
        return SchemeTimes(
            device=document["device"],
            ms=dict(zip(shapes, times, strict=True)),
            layers={
                role: {name: shapes[at] for name, at in named.items()}
                for role, named in document["layers"].items()
            },
        )
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DamagedArtifactError(
            f"{folder / FILE} does not have the layout of this version: {type(error).__name__}: {error}",
            "build the artifact again",
        ) from error
