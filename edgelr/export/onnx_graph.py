"""Export of an ONNX file: the graph as it was factored, pivoted where that pays, and proved equal to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgelr.artifacts import Cost, Factored, Package, Source
from edgelr.device.load import load_devices
from edgelr.device.session import open_session
from edgelr.errors import ExportError
from edgelr.examples import Call, write_examples
from edgelr.export.label import Label
from edgelr.export.pivot import pivot_graph
from edgelr.kinds.arrays import own_metric
from edgelr.lowrank.graph_file import MODEL, read_graph, write_graph
from edgelr.lowrank.graph_layers import parameters
from edgelr.progress import Progress
from edgelr.recipe.schema import Export
from edgelr.runtime.calls import read_calls, write_calls, write_outputs
from edgelr.runtime.examples import EXAMPLES
from edgelr.runtime.graph import describe_graph, run_graph
from edgelr.runtime.package import seal_package

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Named = dict[str, NDArray[Any]]
_COMPARED = 8  # calls that prove that the package's graph is the one that it was made of


def export_graph(
    source: Source,
    factored: Factored | None,
    label: Label,
    settings: Export,
    folder: Path,
    progress: Progress,
) -> Package:
    """See ``stage.export``."""
    examples = source.examples("test", Call)
    calls = read_calls(source.folder / "data", examples)
    of = source.model_folder if factored is None else factored.folder / MODEL
    proto = read_graph(of)
    if settings.pivot and factored is not None:
        _pivot(proto, progress)
    path = folder / MODEL
    write_graph(proto, path)
    worst = _check_equal(of, path, calls[:: max(1, len(calls) // _COMPARED)], settings.tolerance)
    progress.note(f"{MODEL}: equal to the graph that it was made of within {worst:.2g}")
    dense = _session(source.model_folder)
    with progress.bar("running the dense model", len(calls)) as advance:
        outputs = []
        for call in calls:
            outputs.append(run_graph(dense, call))
            advance()
    write_outputs(folder, outputs, own_metric(label.metric, outputs, calls))
    write_examples(folder / EXAMPLES, write_calls(folder, "examples", calls))
    return seal_package(
        folder,
        name=label.name,
        task=label.task.type,
        graphs={"model": describe_graph(path)},
        precision="fp32",
        cost=Cost(parameters=parameters(proto), bytes=0, macs=label.macs),
        settings={},
        source={"model": source.title, "fingerprint": source.fingerprint},
        gates=(),
        accuracy={},
    )


def _pivot(proto: onnx.ModelProto, progress: Progress) -> None:
    chains = pivot_graph(proto)
    count = sum(chain.side is not None for chain in chains)
    saved = sum(chain.saved for chain in chains)
    progress.note(f"{MODEL}: {count} of {len(chains)} low-rank layers pivoted, {saved} numbers saved")


def _check_equal(of: Path, path: Path, calls: Sequence[Named], tolerance: float) -> float:
    """Largest difference of two graphs, relative to the largest number that an output has in any call.

    Raises:
        ExportError: It is more than the tolerance.
    """
    before, after = _session(of), _session(path)
    pairs = [(run_graph(before, call), run_graph(after, call)) for call in calls]
    worst = 0.0
    for name in (name for name, array in pairs[0][0].items() if array.dtype.kind == "f"):
        largest = max(_largest(wanted[name]) for wanted, _ in pairs)
        for wanted, found in pairs:
            unequal = wanted[name] != found[name]  # infinities that are the same differ by nothing
            apart = np.abs(found[name][unequal] - wanted[name][unequal]).max(initial=0.0)
            difference = float(apart) / (largest or 1.0)
            if not difference <= tolerance:
                raise ExportError(
                    f"{path.name}: '{name}' differs from {of} by {difference:.3g} of its largest number, "
                    f"more than {tolerance:.3g}",
                    "raise export.tolerance if that is little for it, or set export.pivot: false",
                )
            worst = max(worst, difference)
    return worst


def _largest(array: np.ndarray[Any, Any]) -> float:
    """Of the finite numbers."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def _session(path: Path) -> InferenceSession:
    return open_session(path, load_devices()["cpu-1t"])
