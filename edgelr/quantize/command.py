"""What ``edgelr quantize`` does: any fp32 package or ONNX file, quantized and compared with what it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import QuantizeError, UsageError
from edgelr.progress import Progress
from edgelr.quantize.stage import quantize, quantize_graph
from edgelr.recipe.schema import Quantize
from edgelr.runtime.package import MANIFEST, open_package
from edgelr.terminal import say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def quantize_path(path: Path, settings: Quantize, out: Path, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Quantize a package into a folder, or an ONNX file into a file.

    Args:
        path: An fp32 package, or an ``.onnx`` file.
        settings: The scheme, and how far the result may be from fp32.
        out: A folder that is not there or empty; of a file, the file to write or a folder for it.
        sizes: Axis name -> size of the made-up inputs that a file is compared with; others are 16.

    Returns:
        ``{"out", "scheme", "bytes", "bytes_before", "cosine"}``; the cosine is to fp32, by output of a file,
        and missing for a package, whose report has it.

    Raises:
        UsageError: There is nothing to quantize, or ``out`` is in use.
        DamagedArtifactError: The package does not match its manifest, or the file is no ONNX model.
        QuantizeError: It is quantized already, cannot be, or is too far from fp32.
    """
    if path.is_dir() and (path / MANIFEST).is_file():
        return _package(path, settings, out)
    if path.is_file():
        return _file(path, settings, out / path.name if out.is_dir() else out, sizes)
    found = "a folder without a package.json" if path.is_dir() else "not there"
    raise UsageError(f"{path} is {found}", "give a package or an .onnx file")


def _package(path: Path, settings: Quantize, out: Path) -> dict[str, Any]:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: there is something already", "give a folder that is new or empty")
    before = open_package(path)
    out.mkdir(parents=True, exist_ok=True)
    after = quantize(before, settings, out, Progress())
    return _said(settings, out, before.cost.bytes, after.cost.bytes, {})


def _file(path: Path, settings: Quantize, out: Path, sizes: Mapping[str, int]) -> dict[str, Any]:
    from edgelr.runtime.graph import describe_graph, graph_bytes

    if out.exists():
        raise UsageError(f"--out {out}: there is a file already", "give another name, or remove it")
    graph = describe_graph(path)
    dynamic = {axis for entry in graph.inputs for axis in entry.shape if isinstance(axis, str)}
    out.parent.mkdir(parents=True, exist_ok=True)
    done = False
    try:
        quantize_graph(path, out, settings)
        cosines = _cosines(path, out, {axis: sizes.get(axis, 16) for axis in dynamic} | dict(sizes))
        _check_close(path, cosines, settings.min_cosine)
        done = True
    finally:
        if not done:  # nothing that was not compared is left behind
            out.unlink(missing_ok=True)
    return _said(settings, out, graph_bytes(path), out.stat().st_size, cosines)


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
    from edgelr.runtime.graph import describe_graph, run_graph
    from edgelr.timing.feeds import feeds
    from edgelr.timing.inputs import made_up_inputs

    device = find_device("cpu-1t")
    given = feeds(made_up_inputs(before, describe_graph(before), sizes))
    one, other = (run_graph(open_session(path, device), given) for path in (before, after))
    return {name: _cosine(one[name], other[name]) for name in one}


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    import numpy as np

    left, right = (array.astype(np.float64).ravel() for array in (one, other))
    if not np.isfinite(right).all():
        return float("nan")
    lengths = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / lengths if lengths else float(np.array_equal(left, right))


def _said(
    settings: Quantize, out: Path, before: int, after: int, cosines: Mapping[str, float]
) -> dict[str, Any]:
    say(f"{out}: {settings.scheme}, {after / 1e6:.2f} MB, {after / before:.2f} of {before / 1e6:.2f} MB")
    for name, cosine in cosines.items():
        say(f"  {name}: cosine {cosine:.4f} to fp32 on made-up inputs")
    document = {"out": str(out), "scheme": settings.scheme, "bytes": after, "bytes_before": before}
    return {**document, **({"cosine": dict(cosines)} if cosines else {})}
