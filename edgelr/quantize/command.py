"""What ``edgelr quantize`` does: any fp32 package or ONNX file, quantized and compared with what it was."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.errors import QuantizeError, UsageError
from edgelr.progress import Progress
from edgelr.quantize.calibration import Data, data_of_package, read_feeds
from edgelr.quantize.fastest import facts_of_times
from edgelr.quantize.schemes import CALIBRATED
from edgelr.quantize.stage import quantize, quantize_graph
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.package import MANIFEST, open_package
from edgelr.terminal import say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgelr.device.schema import Device
    from edgelr.quantize.fastest import SchemeTimes
    from edgelr.quantize.static import Feeds


def quantize_path(
    path: Path,
    settings: Quantize,
    out: Path,
    sizes: Mapping[str, int],
    calibration: Path | None = None,
    device: str = "cpu-1t",
) -> dict[str, Any]:
    """Quantize a package into a folder, or an ONNX file into a file.

    Args:
        path: An fp32 package, or an ``.onnx`` file.
        settings: The scheme, and how far the result may be from fp32.
        out: A folder that is not there or empty; of a file, the file to write or a folder for it.
        sizes: Axis name -> size of the made-up inputs that a file is compared with; others are 16.
        calibration: An ``.npz`` file of inputs, see ``read_feeds``. Without it, a package's examples serve.
        device: Name or file of the profile that the scheme auto is chosen on; of no other use.

    Returns:
        ``{"out", "scheme", "bytes", "bytes_before", "cosine"}``; the cosine is to fp32, by output of a file,
        and missing for a package, whose report has it. Of auto also ``auto``: the times it was chosen by.

    Raises:
        UsageError: There is nothing to quantize, ``out`` is in use, calibration data is needed, or nothing
            can be timed on the device.
        MissingRequirementError: The device's provider is not installed.
        DataError: Calibration data does not fit the graph, or has NaN in it.
        DamagedArtifactError: The package does not match its manifest, or the file is no ONNX model.
        QuantizeError: It is quantized already, cannot be, or is too far from fp32.
    """
    timed_on = _device(device) if settings.scheme == "auto" else None
    if path.is_dir() and (path / MANIFEST).is_file():
        return _package(path, settings, out, calibration, timed_on)
    if path.is_file():
        out = out / path.name if out.is_dir() else out
        return _file(path, settings, out, sizes, calibration, timed_on)
    found = "a folder without a package.json" if path.is_dir() else "not there"
    raise UsageError(f"{path} is {found}", "give a package or an .onnx file")


def _device(name: str) -> Device:
    from edgelr.device.load import find_device
    from edgelr.quantize.auto import check_timed

    device = find_device(name)
    check_timed(device)
    return device


def _package(
    path: Path, settings: Quantize, out: Path, calibration: Path | None, timed_on: Device | None
) -> dict[str, Any]:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: there is something already", "give a folder that is new or empty")
    before = open_package(path)
    data = _data(before, calibration)
    times = None
    if timed_on is not None and data is not None:
        from edgelr.quantize.auto import times_of_package

        times = times_of_package(before, settings, data, timed_on)
    out.mkdir(parents=True, exist_ok=True)
    done = False
    try:
        after = quantize(before, settings, out, Progress(), data, times)
        done = True
    finally:
        if not done:  # it was new or empty
            shutil.rmtree(out)
    return _said(settings, out, before.cost.bytes, after.cost.bytes, {}, times)


def _data(package: Package, calibration: Path | None) -> Data | None:
    """Calibration data for a package: what was given, or its own examples."""
    if package.precision != "fp32":
        return None  # the stage says so
    if calibration is None:
        say(f"calibration data: the examples of {package.name} itself, which it is also tested with")
        return data_of_package(package)
    if len(package.graphs) > 1:
        raise UsageError(
            f"--calibration: {package.name} has {len(package.graphs)} graphs, each with inputs of its own",
            "leave it out: the package's own examples are taken",
        )
    return Data(feeds={role: read_feeds(calibration, graph) for role, graph in package.graphs.items()})


def _file(
    path: Path,
    settings: Quantize,
    out: Path,
    sizes: Mapping[str, int],
    calibration: Path | None,
    timed_on: Device | None,
) -> dict[str, Any]:
    from edgelr.runtime.graph import describe_graph, graph_bytes

    if out.exists():
        raise UsageError(f"--out {out}: there is a file already", "give another name, or remove it")
    graph = describe_graph(path)
    if calibration is None and settings.scheme in CALIBRATED:
        raise UsageError(
            f"{settings.scheme} needs calibration data, and a file has no examples",
            "add --calibration inputs.npz, with an array for each input of the graph",
        )
    feeds = read_feeds(calibration, graph) if calibration is not None else ()
    dynamic = {axis for entry in graph.inputs for axis in entry.shape if isinstance(axis, str)}
    sizes = {axis: sizes.get(axis, 16) for axis in dynamic} | dict(sizes)
    times = None
    if timed_on is not None:
        from edgelr.quantize.auto import times_of_file

        called = feeds or [_made_up(path, sizes)]
        times = times_of_file(path, settings, called, timed_on, calibrated=bool(feeds))
    out.parent.mkdir(parents=True, exist_ok=True)
    done = False
    try:
        left = quantize_graph(path, out, settings, feeds, times)
        cosines = _cosines(path, out, sizes)
        _check_close(path, cosines, settings.min_cosine)
        done = True
    finally:
        if not done:  # nothing that was not compared is left behind
            out.unlink(missing_ok=True)
    for each in left[:3]:
        say(f"  fp32 still: {each.name}, {each.bytes} bytes ({each.reason})")
    return _said(settings, out, graph_bytes(path), out.stat().st_size, cosines, times)


def _check_close(path: Path, cosines: Mapping[str, float], least: float) -> None:
    for name, cosine in cosines.items():
        if not cosine >= least:
            raise QuantizeError(
                f"{path.name}: the cosine of output '{name}' to fp32 is {cosine:.4f}, the limit is {least}",
                "try another scheme, or accept the loss with --min-cosine",
            )


def _cosines(before: Path, after: Path, sizes: Mapping[str, int]) -> dict[str, float]:
    """Output name -> cosine of the two graphs' outputs on made-up inputs, all numbers as one vector."""
    from edgelr.device.load import find_device
    from edgelr.device.session import open_session
    from edgelr.runtime.graph import run_graph

    device = find_device("cpu-1t")
    given = _made_up(before, sizes)
    one, other = (run_graph(open_session(path, device), given) for path in (before, after))
    return {name: _cosine(one[name], other[name]) for name in one}


def _made_up(path: Path, sizes: Mapping[str, int]) -> Feeds:
    from edgelr.runtime.graph import describe_graph
    from edgelr.timing.feeds import feeds
    from edgelr.timing.inputs import made_up_inputs

    return feeds(made_up_inputs(path, describe_graph(path), sizes))


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    import numpy as np

    left, right = (array.astype(np.float64).ravel() for array in (one, other))
    if not np.isfinite(right).all():
        return float("nan")
    lengths = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / lengths if lengths else float(np.array_equal(left, right))


def _said(
    settings: Quantize,
    out: Path,
    before: int,
    after: int,
    cosines: Mapping[str, float],
    times: SchemeTimes | None,
) -> dict[str, Any]:
    say(f"{out}: {settings.scheme}, {after / 1e6:.2f} MB, {after / before:.2f} of {before / 1e6:.2f} MB")
    for name, cosine in cosines.items():
        say(f"  {name}: cosine {cosine:.4f} to fp32 on made-up inputs")
    document = {"out": str(out), "scheme": settings.scheme, "bytes": after, "bytes_before": before}
    chosen = {} if times is None else {"auto": facts_of_times(times)}
    return {**document, **({"cosine": dict(cosines)} if cosines else {}), **chosen}
