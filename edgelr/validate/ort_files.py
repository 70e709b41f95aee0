"""Whether a package's graphs in ONNX Runtime's own format compute what its ONNX files compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.session import open_session
from edgelr.errors import DamagedArtifactError
from edgelr.kinds.kind import kind_of
from edgelr.runtime.graph import run_graph
from edgelr.runtime.package import ORT, model_path
from edgelr.timing.feeds import feeds
from edgelr.timing.inputs import made_up_inputs
from edgelr.validate.across import REFERENCE, TOLERANCES, differ

_SIZE = 8  # of an open axis of graphs that a package has several of; of a batch it is 1


def compare_ort_files(package: Package, length: int) -> tuple[str, ...]:
    """Run each graph in both formats on one CPU core.

    Args:
        package: The candidate.
        length: Of the input of a graph alone, in the kind's unit.

    Returns:
        A note on how far they are apart and how large the files are; nothing where there are no such files.

    Raises:
        DamagedArtifactError: A file is missing, does not load, or computes something else.
    """
    if not (package.folder / ORT).is_dir():  # never asked for, or deleted, which a package allows
        return ()
    device, worst, total = load_devices()[REFERENCE], 0.0, 0
    for role, graph in package.graphs.items():
        path = package.folder / ORT / Path(graph.file).with_suffix(".ort").name
        given = _inputs(package, role, length)
        found, right = (
            run_graph(open_session(file, device), given) for file in (path, model_path(package, role))
        )
        apart = differ(found, right)
        if not apart <= TOLERANCES[package.precision]:
            raise DamagedArtifactError(
                f"{path} computes something else than {graph.file}: 1 - cosine {apart:.2g}",
                "build the package again",
            )
        worst, total = max(worst, apart), total + path.stat().st_size
    note = (
        f"{ORT} computes what the ONNX files do, 1 - cosine at most {worst:.1e} "
        f"({REFERENCE}, {device.evidence}), in {total / 1e6:.2f} MB"
    )
    return (note,)


def _inputs(package: Package, role: str, length: int) -> dict[str, Any]:
    """What a graph alone is timed with, for one of several ones and random numbers."""
    if list(package.graphs) == [role]:
        return feeds(kind_of(package).timed_inputs(package, length))
    graph = package.graphs[role]
    axes = {axis for entry in graph.inputs for axis in entry.shape if isinstance(axis, str)}
    sizes = {axis: 1 if axis == "batch" else _SIZE for axis in axes}
    return feeds(made_up_inputs(model_path(package, role), graph, sizes))
