"""The scheme ``auto`` of the command line: what a build knows by its recipe and its devices is asked here."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgelr.artifacts import Package
from edgelr.device.host import require
from edgelr.device.schema import Device
from edgelr.errors import UsageError
from edgelr.progress import Progress
from edgelr.quantize.calibration import Data
from edgelr.quantize.fastest import SchemeTimes, facts_of_times
from edgelr.quantize.graphs import Prepared, prepare_graph, prepared_graphs
from edgelr.quantize.schemes import CALIBRATED
from edgelr.quantize.static import Feeds
from edgelr.quantize.times import time_graphs
from edgelr.recipe.quantize import TIMED, LayerScheme, Quantize
from edgelr.terminal import say

FILE_ROLE = "model"
"""Of a graph that is no package's."""


def check_timed(device: Device) -> None:
    """Make sure, before anything is computed, that schemes can be timed on a device.

    Raises:
        UsageError: Nothing can be timed on it, or it takes nothing but fp32.
        MissingRequirementError: Its provider is not installed.
    """
    if not device.timed:
        raise UsageError(
            f"--scheme auto: nothing can be timed on '{device.name}' (evidence: {device.evidence})",
            "give a device that runs in this process, such as --device cpu-1t",
        )
    if not set(_schemes(device, calibrated=True)) - {"fp32"}:
        raise UsageError(
            f"--scheme auto has nothing to choose from on '{device.name}', "
            f"which accepts {', '.join(device.accepts)}",
            "name a scheme that it accepts, or give another device",
        )
    require(device)


def times_of_package(package: Package, settings: Quantize, data: Data, device: Device) -> SchemeTimes:
    """Time the products of a package with every scheme that a device takes.

    Args:
        package: In fp32.
        settings: Its block size counts.
        data: Tells how many rows a product has.
        device: Where; see ``check_timed``.

    Raises:
        QuantizeError: A graph is quantized already, or has nothing to quantize.
        UnsupportedModelError: The process that times died or hangs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        graphs = prepared_graphs(package, Path(scratch))
        return _timed(graphs, data.feeds, settings, device, Path(scratch), calibrated=True)


def times_of_file(
    path: Path, settings: Quantize, feeds: Sequence[Feeds], device: Device, *, calibrated: bool
) -> SchemeTimes:
    """Time the products of an ONNX file likewise.

    Args:
        path: In fp32.
        settings: Its block size counts.
        feeds: Calls that tell how many rows a product has.
        device: Where.
        calibrated: Whether there is calibration data, which some schemes need.

    Raises:
        QuantizeError: It is quantized already, or has nothing to quantize.
        UnsupportedModelError: The process that times died or hangs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        graphs = {FILE_ROLE: prepare_graph(path, Path(scratch))}
        return _timed(graphs, {FILE_ROLE: feeds}, settings, device, Path(scratch), calibrated=calibrated)


def _schemes(device: Device, *, calibrated: bool) -> tuple[LayerScheme, ...]:
    usable = (scheme for scheme in TIMED if calibrated or scheme not in CALIBRATED)
    return tuple(scheme for scheme in usable if scheme in device.accepts)


def _timed(
    graphs: Mapping[str, Prepared],
    feeds: Mapping[str, Sequence[Feeds]],
    settings: Quantize,
    device: Device,
    scratch: Path,
    *,
    calibrated: bool,
) -> SchemeTimes:
    schemes = _schemes(device, calibrated=calibrated)
    times = time_graphs(graphs, feeds, settings, schemes, device, scratch, Progress())
    for row in facts_of_times(times)["shapes"]:
        shape = f"{row['rows']} x {row['in']} -> {', '.join(map(str, row['outs']))}"
        measured = ", ".join(f"{scheme} {ms:.3g} ms" for scheme, ms in row["ms"].items())
        say(f"  {row['layers']} layers of {shape}: {row['scheme']} ({measured})")
    return times
