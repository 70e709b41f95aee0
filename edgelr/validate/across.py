"""Whether a device computes what the CPU computes, from the very same files; and if not, from which layer on.

Three lengths, one text and two: padding, masks and broadcasting differ between them, and so do the kernels
that a device chooses.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import UnsupportedModelError
from edgelr.examples import AnyExample, Passage, Translation, Utterance, spread
from edgelr.kinds.kind import kind_of
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.graph import run_graph
from edgelr.runtime.open_graphs import open_graphs
from edgelr.runtime.package import model_path, precisions, session_entries
from edgelr.runtime.shapes import fixed_sizes
from edgelr.timing.feeds import feeds as feeds_of
from edgelr.validate.paired import with_a_pair

if TYPE_CHECKING:
    from edgelr.runners.protocol import OpenGraph

    Open = Callable[[Path], OpenGraph]

Feeds = Mapping[str, NDArray[Any]]
REFERENCE = "cpu-1t"
_TEXTS = 8  # examples that are written here and there
_DIFFERENT_SHARE = 0.125  # of them, at most: between tokens of the same score any device may choose the other
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
        lengths: In tokens; the shortest, the middle one and the longest are taken. A package that writes is
            compared on examples of its own instead, and translates or transcribes some of them, too.

    Returns:
        A note on how far they are apart; None for the CPU itself, and for packages with CTC and others of
        several graphs: nothing was compared then.

    Raises:
        UnsupportedModelError: They are further apart than the precision explains, and the first layer where
            they are is named; or they write different texts.
    """
    cases = {} if device.name == REFERENCE else _cases_by_role(package, lengths)
    if not cases:
        return None
    here, there = (open_graphs(package, each, package.graphs) for each in (load_devices()[REFERENCE], device))
    worst = max(
        _furthest(package, role, device, (here[role], there[role]), feeds) for role, feeds in cases.items()
    )
    count = sum(len(feeds) for feeds in cases.values())
    least_exact, tolerance = allowed(package, device)
    texts = _compare_texts(package, device, (here, there)) if len(cases) > 1 else ""
    return (
        f"{device.name} agrees with {REFERENCE} on {count} inputs of {len(_chosen(lengths))} lengths: "
        f"1 - cosine at most {worst:.1e}, of {tolerance:g} for {least_exact}{texts} ({device.evidence})"
    )


def _ways(package: Package, device: Device) -> tuple[Open, Open]:
    """What opens a file here and there."""
    reference, sizes = load_devices()[REFERENCE], fixed_sizes(package)
    entries = session_entries(package, device.name)
    return (
        lambda file: open_session(file, reference),
        lambda file: open_session(file, device, entries=entries, sizes=sizes),
    )


def _furthest(
    package: Package, role: str, device: Device, opened: tuple[OpenGraph, OpenGraph], cases: Sequence[Feeds]
) -> float:
    """How far a graph is apart at most, on any of the cases."""
    here, there = opened
    least_exact, tolerance = allowed(package, device)
    worst = 0.0
    for feeds in cases:
        apart = differ(run_graph(there, feeds), run_graph(here, feeds))
        if not apart <= tolerance:
            layer = first_divergence(model_path(package, role), feeds, *_ways(package, device), tolerance)
            graph = "" if role == "model" else f" in the {role}"
            raise UnsupportedModelError(
                f"device '{device.name}' disagrees with the CPU on {_shape(package, feeds)}{graph}: "
                f"1 - cosine {apart:.2g}, at most {tolerance:g} for {least_exact}; "
                f"the first layer that differs is {layer}",
                "do not ship this package to that device; another quantize.scheme may keep the layer right",
            )
        worst = max(worst, apart)
    return worst


def _compare_texts(package: Package, device: Device, opened: Iterable[Mapping[str, Any]]) -> str:
    """Write some texts here and there; what a note says of them."""
    kind = kind_of(package)
    examples = spread(folder_examples(package.folder, kind.EXAMPLE), _TEXTS)
    judge = kind.judge(examples, package.folder)
    right, found = (judge.answer(package, sessions, None) for sessions in opened)
    other = [(one, two) for one, two in zip(right, found, strict=True) if one != two]
    if len(other) > len(right) * _DIFFERENT_SHARE:
        raise UnsupportedModelError(
            f"device '{device.name}' writes another text than the CPU for {len(other)} of {len(right)} "
            f"examples, such as {other[0][1]!r} in place of {other[0][0]!r}",
            "do not ship this package to that device; another quantize.scheme may keep the texts the same",
        )
    return f", the same text for {len(right) - len(other)} of {len(right)}"


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


def _cases_by_role(package: Package, lengths: Sequence[int]) -> Mapping[str, Sequence[Feeds]]:
    """What each graph is run with; nothing for packages that are not compared."""
    kind, roles = kind_of(package), set(package.graphs)
    if roles == {"model"}:
        return {"model": _cases(package, lengths)}
    if "decoder" not in roles:
        return {}
    examples = sorted(folder_examples(package.folder, kind.EXAMPLE), key=_text_length)
    three = [examples[place] for place in (0, len(examples) // 2, -1)]
    found = kind.feeds(package, three, package.folder)
    return {role: with_a_pair(feeds, package.graphs[role]) for role, feeds in found.items()}


def _text_length(example: AnyExample) -> int:
    """Of what is translated, gone on with, or said."""
    match example:
        case Translation():
            return len(example.source)
        case Passage() | Utterance():
            return len(example.text)
        case _:
            return 0


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
