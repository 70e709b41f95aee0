"""Packages whose graph takes and gives any arrays: judged by the dense model's outputs, or your function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Graph, Package
from edgelr.errors import DamagedArtifactError, UnsupportedModelError, UsageError
from edgelr.examples import AnyExample, Call, spread
from edgelr.kinds.cosines import COMPARED
from edgelr.kinds.kind import Judge
from edgelr.kinds.outputs import REFERENCE
from edgelr.runtime.answers import check_finite
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.calls import read_calls, read_outputs
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.graph import run_graph
from edgelr.runtime.package import model_path, session_entries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from edgelr.device.schema import Device
    from edgelr.kinds.kind import Each, Feeds, Sessions
    from edgelr.metrics.scores import Scores
    from edgelr.progress import Progress

    Named = Mapping[str, NDArray[Any]]

EXAMPLE = Call
OPTIONS = ("out",)
UNIT = "rows"
RUNS = 1

_CALIBRATING = 256  # calls


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a graph gives for some examples.

    Attributes:
        outputs: Name -> array, an example an entry.
        metric: What the user's own function says of each, ``[examples]``; None where there is none.
    """

    outputs: Sequence[Named]
    metric: NDArray[np.float64] | None


def use(package: Package, inputs: Sequence[str], device: Device, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Run every file of arrays; see ``use_arrays.py``."""
    from edgelr.use_arrays import run_files

    return run_files(package, inputs, device, **options)


def judge(examples: Sequence[AnyExample], folder: Path) -> Judge:
    """Outputs of every example, one a call."""
    calls = read_calls(folder, [each for each in examples if isinstance(each, Call)])
    return Judge(
        answer=lambda package, sessions, each: _answers(package, sessions["model"], calls, each),
        score=_score,
    )


def _answers(
    package: Package, session: InferenceSession, calls: Sequence[Named], each: Each | None
) -> Answers:
    outputs = []
    for call in calls:
        outputs.append(_outputs(package, session, call))
        if each is not None:
            each()
    return Answers(outputs=outputs, metric=own_metric(package.metric, outputs, calls))


def _outputs(package: Package, session: InferenceSession, call: Named) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = dict(run_graph(session, call))
    for array in found.values():
        if array.dtype.kind == "f":
            check_finite(array, package)
    return found


def own_metric(
    place: str | None, outputs: Sequence[Named], calls: Sequence[Named]
) -> NDArray[np.float64] | None:
    """What a user's function says of every example.

    Args:
        place: ``FILE.py:FUNCTION``, called with the outputs and all arrays of an example, both name -> array;
            it returns a number, better when higher. None without one.
        outputs: An example an entry.
        calls: Likewise.

    Returns:
        ``[examples]``, or None.

    Raises:
        UsageError: There is no such function.
        UnsupportedModelError: It fails, or returns something else.
    """
    import numpy as np

    from edgelr.own_code import own_function, running

    if place is None:
        return None
    function, path = own_function(place), Path(place.rpartition(":")[0])
    with running(path):
        values = [float(function(dict(each), dict(call))) for each, call in zip(outputs, calls, strict=True)]
    if not np.isfinite(values).all():
        raise UnsupportedModelError(f"{place} returns a number that is not finite", "correct the file")
    return np.array(values, np.float64)


def _score(own: Answers, dense: Answers) -> dict[str, Scores]:
    from edgelr.metrics.arrays import array_scores

    for number, (one, other) in enumerate(zip(own.outputs, dense.outputs, strict=True)):
        for name, array in other.items():
            if name not in one or one[name].shape != array.shape:
                found = f"of shape {list(one[name].shape)}" if name in one else "missing"
                raise DamagedArtifactError(
                    f"output '{name}' of example {number} is {found}, the dense model's is of shape "
                    f"{list(array.shape)}",
                    "only outputs whose size depends on nothing but the inputs' can be compared",
                )
    return array_scores(own.outputs, dense.outputs, own.metric)


def dense_answers(package: Package, count: int) -> Answers:
    """The dense model's outputs, which are stored for every example."""
    outputs, metric = read_outputs(package.folder, count)
    return Answers(outputs=outputs, metric=metric)


def parity(package: Package, sessions: Sessions) -> float | None:
    """Largest difference from torch's outputs on the stored cases; None where it was no torch module."""
    import numpy as np

    path = package.folder / REFERENCE
    arrays = read_arrays(path) if path.is_file() else {}
    graph = package.graphs["model"]
    largest: float | None = None
    for case in sorted({key.rpartition(".")[2] for key in arrays if key.rpartition(".")[2].isdecimal()}):
        entries = [entry.name for entry in (*graph.inputs, *graph.outputs)]
        if any(f"{name}.{case}" not in arrays for name in entries):
            raise DamagedArtifactError(f"{path}: parity case {case} is incomplete")
        found = _outputs(package, sessions["model"], _inputs(graph, arrays, f".{case}"))
        for name, array in found.items():
            wanted = arrays[f"{name}.{case}"]
            if array.shape != wanted.shape:
                raise DamagedArtifactError(f"{path}: {name}.{case} has shape {list(wanted.shape)}")
            difference = np.abs(array.astype(np.float64) - wanted.astype(np.float64)).max(initial=0.0)
            largest = max(largest or 0.0, float(difference))
    return largest


def _inputs(graph: Graph, arrays: Named, suffix: str = "") -> dict[str, NDArray[Any]]:
    return {entry.name: arrays[f"{entry.name}{suffix}"] for entry in graph.inputs}


def notes() -> tuple[str, ...]:
    """What the metrics are of."""
    return (
        "cosine is of each output of an example, all its numbers as one vector, to the dense model's; "
        "difference is the largest in an example, on average",
    )


def feeds(package: Package, examples: Sequence[AnyExample], folder: Path) -> dict[str, list[Feeds]]:
    """Inputs of some of the examples."""
    few = spread([each for each in examples if isinstance(each, Call)], _CALIBRATING)
    graph = package.graphs["model"]
    return {"model": [_inputs(graph, call) for call in read_calls(folder, few)]}


def compare(package: Package, folder: Path, progress: Progress) -> dict[str, float]:
    """Outputs of the package's own examples; see ``Kind.compare``."""
    import numpy as np

    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session
    from edgelr.errors import QuantizeError
    from edgelr.metrics.arrays import alike

    device, path = load_devices()["cpu-1t"], model_path(package)
    dense, small = open_session(path, device), open_session(folder / path.name, device)
    few = spread(folder_examples(package.folder, Call), COMPARED)
    found = []
    with progress.bar("comparing with fp32", len(few)) as advance:
        for call in read_calls(package.folder, few):
            one, other = run_graph(dense, call), run_graph(small, call)
            if not all(np.isfinite(array).all() for array in other.values()):
                raise QuantizeError(f"{path.name}: the quantized graph gives values that are not finite")
            found.append(np.mean([alike(one[name], other[name]) for name in one]))
            advance()
    return {"model": float(np.mean(found))}


def timed(package: Package, device: Device) -> dict[str, Any]:
    """One run of the graph."""
    return {"model": str(model_path(package)), "entries": session_entries(package, device.name)}


def timed_inputs(package: Package, length: int) -> dict[str, Any]:
    """The example of middle size, its rows repeated to ``length`` of them.

    Where the graph has no batch axis, a call is one row, and the example is taken as it is.

    Raises:
        UsageError: More than one row of such a graph.
    """
    import numpy as np

    from edgelr.timing.feeds import as_request

    graph = package.graphs["model"]
    examples = folder_examples(package.folder, Call)
    calls = [_inputs(graph, call) for call in read_calls(package.folder, examples)]
    middle = sorted(calls, key=lambda call: sum(array.size for array in call.values()))[len(calls) // 2]
    if batch_axis(graph) is not None:
        middle = {name: np.resize(array, (length, *array.shape[1:])) for name, array in middle.items()}
    elif length != 1:
        raise UsageError(
            f"{package.folder}: the graph has no batch axis, {length} rows cannot be timed", "time 1 row"
        )
    return {name: as_request(array) for name, array in middle.items()}


def batch_axis(graph: Graph) -> str | None:
    """Name of the first axis of every input, where that is one dynamic axis; else None.

    Args:
        graph: Of a package.
    """
    first = {entry.shape[0] if entry.shape else None for entry in graph.inputs}
    axis = first.pop() if len(first) == 1 else None
    return axis if isinstance(axis, str) and axis != "?" else None
