"""Whether a device computes what the CPU computes, from the very same files; and if not, from which layer on.

Three lengths, one text and two: padding, masks and broadcasting differ between them, and so do the kernels
that a device chooses.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import UnsupportedModelError
from edgelr.kinds.kind import kind_of
from edgelr.runtime.graph import run_graph
from edgelr.runtime.package import model_path, precisions, session_entries
from edgelr.runtime.shapes import fixed_sizes
from edgelr.timing.feeds import feeds as feeds_of

if TYPE_CHECKING:
    from edgelr.runners.protocol import OpenGraph

    Open = Callable[[Path], OpenGraph]

Feeds = Mapping[str, NDArray[Any]]
REFERENCE = "cpu-1t"
_COMPARED = {"MatMul", "Gemm", "Conv", "LayerNormalization", "Softmax"}

# Half the squared difference that two right ways to compute differ by at most: fp32 in the order of its
# sums; the others also in how a value between two steps is rounded, which each layer after it passes on.
TOLERANCES = {
    "fp32": 1e-6,
    "fp16": 1e-4,
    "weight-int8": 1e-3,
    "weight-int4": 1e-3,
    "int8-dynamic": 5e-3,
    "int8-static": 5e-3,
    "a16w8": 5e-3,
}


def compare_across(package: Package, device: Device, lengths: Sequence[int]) -> str | None:
    """Compare a device with one CPU core.

    Args:
        package: The candidate.
        device: Any that runs.
        lengths: In tokens; the shortest, the middle one and the longest are taken.

    Returns:
        A note on how far they are apart; None for the CPU itself, and for packages of several graphs or of
        sounds: nothing was compared then.

    Raises:
        UnsupportedModelError: They are further apart than the precision explains; the first layer where they
            are is named.
    """
    if device.name == REFERENCE or list(package.graphs) != ["model"] or kind_of(package).UNIT == "s":
        return None
    reference, sizes, path = load_devices()[REFERENCE], fixed_sizes(package), model_path(package)
    cases = _cases(package, lengths)
    open_here: Open = lambda file: open_session(file, reference)  # noqa: E731
    entries = session_entries(package, device.name)
    open_there: Open = lambda file: open_session(file, device, entries=entries, sizes=sizes)  # noqa: E731
    here, there = open_here(path), open_there(path)
    least_exact, tolerance = allowed(package, device)
    worst = 0.0
    for feeds in cases:
        apart = differ(run_graph(there, feeds), run_graph(here, feeds))
        if not apart <= tolerance:
            layer = first_divergence(path, feeds, open_here, open_there, tolerance)
            shape = _shape(package, feeds)
            raise UnsupportedModelError(
                f"device '{device.name}' disagrees with the CPU on {shape}: 1 - cosine {apart:.2g}, "
                f"at most {tolerance:g} for {least_exact}; the first layer that differs is {layer}",
                "do not ship this package to that device; another quantize.scheme may keep the layer right",
            )
        worst = max(worst, apart)
    return (
        f"{device.name} agrees with {REFERENCE} on {len(cases)} inputs of {len(_chosen(lengths))} lengths: "
        f"1 - cosine at most {worst:.1e}, of {tolerance:g} for {least_exact} ({device.evidence})"
    )


def allowed(package: Package, device: Device) -> tuple[str, float]:
    """How far a device may be from the CPU: what the least exact arithmetic explains.

    Args:
        package: Its layers may differ in precision.
        device: It may compute floats in half precision, whatever the package has.

    Returns:
        That precision, and the tolerance.
    """
    found = max((*precisions(package), device.floats), key=lambda each: TOLERANCES[each])
    return found, TOLERANCES[found]


def first_divergence(path: Path, feeds: Feeds, here: Open, there: Open, tolerance: float) -> str:
    """The first layer whose output differs, found by making outputs of what is between the layers.

    Args:
        path: The graph.
        feeds: An input on which its outputs differ.
        here: Opens a graph where it is right.
        there: Opens it on the device.
        tolerance: Of 1 - cosine.

    Returns:
        Its name and operator; "none of its own" where every layer agrees and only what follows does not.
    """
    import onnx

    proto = onnx.load(path)
    layers = [node for node in proto.graph.node if node.op_type in _COMPARED]
    given = {value.name for value in proto.graph.output}
    proto.graph.output.extend(
        onnx.ValueInfoProto(name=node.output[0]) for node in layers if node.output[0] not in given
    )
    with tempfile.TemporaryDirectory(prefix="edgelr-") as folder:
        probe = Path(folder) / "probe.onnx"
        onnx.save(proto, probe, save_as_external_data=True, location="weights")  # one file ends at 2 GiB
        right, found = (run_graph(open_graph(probe), feeds) for open_graph in (here, there))
    for node in layers:
        name = node.output[0]
        if not differ({name: found[name]}, {name: right[name]}) <= tolerance:
            return f"{node.name or name} ({node.op_type})"
    return "none of its own"


def _chosen(lengths: Sequence[int]) -> list[int]:
    ordered = sorted(set(lengths))
    return sorted({ordered[0], ordered[len(ordered) // 2], ordered[-1]})


def _cases(package: Package, lengths: Sequence[int]) -> list[Feeds]:
    """At three lengths, what the package is timed with; of texts also two, the second half as long."""
    kind = kind_of(package)
    cases: list[Feeds] = []
    for length in _chosen(lengths):
        one = feeds_of(kind.timed_inputs(package, length))
        cases.append(one)
        if kind.UNIT == "tokens":
            half = np.arange(length) < (length + 1) // 2
            cases.append({name: np.concatenate([row, np.where(half, row, 0)]) for name, row in one.items()})
    return cases


def differ(found: Mapping[str, NDArray[Any]], right: Mapping[str, NDArray[Any]]) -> float:
    """Half the squared difference of a row over its square, the largest of all; NaN where one is not finite.

    Of vectors that are as long as each other that is 1 - cosine; unlike it, a wrong length counts too.

    Args:
        found: Output name -> array.
        right: Likewise, what it should be.
    """
    worst = 0.0
    for name, wanted in right.items():
        if not np.isfinite(found[name]).all():
            return float("nan")
        rows = [np.reshape(each, (len(each), -1)).astype(np.float64) for each in (found[name], wanted)]
        apart, size = (np.square(each).sum(axis=1) for each in (rows[0] - rows[1], rows[1]))
        if (apart[size == 0] > 0).any():
            return float("inf")
        worst = float(np.maximum(worst, (apart / np.where(size > 0, 2 * size, 1)).max()))
    return worst


def _shape(package: Package, feeds: Feeds) -> str:
    shape = next(iter(feeds.values())).shape
    sizes = " x ".join(str(size) for size in shape)
    return f"{sizes} tokens" if kind_of(package).UNIT == "tokens" else sizes
