"""Survey of an ONNX graph: statistics, spectra and sensitivities of every site, in ONNX Runtime alone.

A graph has no gradients: factors are chosen for the outputs of each layer (``whitened``), and what a layer is
worth to the output of the graph is measured, by giving the graph another weight in its place.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgelr.artifacts import Source, Survey
from edgelr.errors import UnsupportedModelError
from edgelr.examples import Call, spread
from edgelr.lowrank.factoring import conv_form, factors_of
from edgelr.lowrank.free_channels import find_channels
from edgelr.lowrank.graph_file import open_graph, read_graph
from edgelr.lowrank.graph_layers import GraphLayer, find_layers, parameters, stored, weight_of
from edgelr.lowrank.statistics import BASES, Statistics, read_statistics
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress, Factors
from edgelr.runtime.arrays import arrays_file
from edgelr.runtime.calls import read_calls
from edgelr.structure import LeftDense, Reduction, Site
from edgelr.survey.findings import Findings, measure_alone, measure_together, write_survey
from edgelr.survey.graph_statistics import GraphSums, Inputs, gather_graph
from edgelr.survey.measure import Probe
from edgelr.survey.selection import nothing_left, ruled_out
from edgelr.survey.sensitivity import SMALLEST_CHANGE

_LEAST_ENERGY = 1e-38  # of an output, to divide by


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A graph and what of it is to be factored.

    Attributes:
        path: Its file, in the shape that ``read_graph`` gives it.
        proto: The same, in memory.
        sites: Their layers, by name of the first.
        tensors: Constants by name.
        skipped: Matrices that are left.
    """

    path: Path
    proto: onnx.ModelProto
    sites: dict[str, tuple[GraphLayer, ...]]
    tensors: Mapping[str, onnx.TensorProto]
    skipped: tuple[LeftDense, ...]


def survey_source(source: Source, compress: Compress, folder: Path, progress: Progress) -> Survey:
    """See ``stage.survey``."""
    examples = source.examples("calibration", Call)
    few = spread(examples, compress.calibration.sensitivity_examples)
    calls, probes = (read_calls(source.folder / "data", chosen) for chosen in (examples, few))
    return survey_graph(source.model_folder, calls, probes, compress, folder, progress)


def survey_graph(
    model: Path,
    calls: Sequence[Inputs],
    few: Sequence[Inputs],
    compress: Compress,
    folder: Path,
    progress: Progress,
) -> Survey:
    """List sites and groups; gather statistics, spectra and sensitivities.

    Args:
        model: The ONNX file.
        calls: Calibration data, an input's name -> its array.
        few: Of these, what sensitivities are measured on; none, and they are not.
        compress: Which sites, how they are factored and measured.
        folder: Where the Survey is written.
        progress: Where to show how far it is.

    Raises:
        UnsupportedModelError: No layer can be factored, a weight is not finite, or it is no ONNX file.
        MissingRequirementError: It has operators that ONNX Runtime has not.
        DataError: A value is not finite, or the graph fails on a call.
    """
    method: Factors = "plain" if compress.factors == "plain" else "whitened"
    with tempfile.TemporaryDirectory() as scratch:
        opened = _open(model, Path(scratch), compress)
        sums = gather_graph(opened.path, opened.proto, opened.sites, calls, folder, progress)
        with read_statistics(folder, sums.inputs) as statistics, arrays_file(folder / BASES) as bases:
            known = Findings(bases=bases, skipped=list(opened.skipped))
            probe = Probe(
                weight=lambda name: _weight(opened, name),
                statistics=statistics,
                method=method,
                points=compress.calibration.sensitivity_points,
                change=_trial(opened, few, method) if few else None,
            )
            _measure(probe, opened, sums, known, progress)
    known.pivotable = _pivotable(opened)
    sites = [_site(name, opened, sums, known) for name in opened.sites]
    tokens = max(sums.rows.values())
    return write_survey(
        folder, sites, known, probe, tokens=tokens, unit="call", parameters=parameters(opened.proto)
    )


def _open(model: Path, scratch: Path, compress: Compress) -> _Opened:
    proto = read_graph(model)
    found = find_layers(proto)
    sites, skipped = {}, list(found.skipped)
    for layers in found.layers.values():
        reasons = [ruled_out(layer.name, compress.include, compress.exclude) for layer in layers]
        reason = next((each for each in reasons if each is not None), None)
        if layers[0].kind == "embedding" and not compress.vocabulary:
            reason = "an embedding: compress.vocabulary is off"
        if reason is None:
            sites[layers[0].name] = layers
        else:
            skipped += [LeftDense(name=layer.name, reason=reason) for layer in layers]
    if not sites:
        raise nothing_left(skipped, compress.include, compress.exclude)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, layers in sites.items():
        if not np.isfinite(numpy_helper.to_array(tensors[layers[0].constant])).all():
            raise UnsupportedModelError(
                f"the weight of '{name}' is not finite (NaN or infinity)", "the file is damaged; get it again"
            )
    path = scratch / "model.onnx"
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)  # saving moves weights out of it
    onnx.save(copy, path, save_as_external_data=True, location="model.onnx.data")
    return _Opened(path=path, proto=proto, sites=sites, tensors=tensors, skipped=tuple(skipped))


def _weight(opened: _Opened, name: str) -> Any:  # noqa: ANN401
    layer = opened.sites[name][0]
    return weight_of(layer, opened.tensors[layer.constant])


def _measure(probe: Probe, opened: _Opened, sums: GraphSums, known: Findings, progress: Progress) -> None:
    shared = {name: tuple(layer.name for layer in layers[1:]) for name, layers in opened.sites.items()}
    readers: dict[str, list[str]] = {}
    for name, owner in sums.inputs.items():
        readers.setdefault(owner, []).append(name)
    joint = [names for names in readers.values() if len(names) > 1]
    label = "measuring sensitivities" if probe.change is not None else "computing spectra"
    with progress.bar(label, len(shared) + len(joint)) as advance:
        measure_alone(probe, shared, known, advance)
        measure_together(probe, joint, known, advance)


def _trial(
    opened: _Opened, few: Sequence[Inputs], method: Factors
) -> Callable[[Reduction, Statistics], float]:
    """What the outputs of the graph change by when the product of factors takes the place of one weight."""
    constants = tuple(layers[0].constant for layers in opened.sites.values())
    session = open_graph(opened.path, replaceable=constants)
    outputs = [entry.name for entry in session.get_outputs()]
    references = [session.run(outputs, dict(call)) for call in few]

    def change(reduction: Reduction, statistics: Statistics) -> float:
        layer = opened.sites[reduction.sites[0]][0]
        tensor = opened.tensors[layer.constant]
        factors = factors_of(weight_of(layer, tensor), reduction, statistics, method)
        given = {layer.constant: stored(layer, factors.product, tensor, conv_form(reduction))}
        changes = [
            relative_error(session.run(outputs, {**call, **given}), reference)
            for call, reference in zip(few, references, strict=True)
        ]
        return max(float(np.mean(changes)), SMALLEST_CHANGE)

    return change


def relative_error(outputs: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]]) -> float:
    """Squared error over the energy of the reference, the mean of all outputs that are fractions.

    Args:
        outputs: Of one call.
        reference: Of the dense graph.
    """
    shares = []
    for found, expected in zip(outputs, reference, strict=True):
        if found.dtype.kind == "f" and found.shape == expected.shape:
            wanted = expected.astype(np.float64)
            energy = max(float(np.square(wanted).sum()), _LEAST_ENERGY)
            shares.append(float(np.square(found - wanted).sum()) / energy)
    return float(np.mean(shares)) if shares else 0.0


def _pivotable(opened: _Opened) -> set[str]:
    """Sites whose outputs or inputs are channels that may be reordered."""
    free = find_channels(opened.proto.graph)
    constants = {name for channels in free for name in (*channels.written, *channels.read)}
    return {name for name, layers in opened.sites.items() if layers[0].constant in constants}


def _site(name: str, opened: _Opened, sums: GraphSums, known: Findings) -> Site:
    layer, *others = opened.sites[name]
    weight = _weight(opened, name)
    out, in_ = weight.matrix().shape
    return Site(
        name=name,
        kind=layer.kind,
        out=out,
        in_=in_,
        inputs=sums.inputs[name],
        calls=max(1, round(sums.rows[name] / max(1, sums.calls))),
        energy=float(known.spectra[name].sum()),
        sensitivity=known.slopes[name],
        shared=tuple(other.name for other in others),
        pivotable=name in known.pivotable,
        kernel=weight.kernel,
        stride=layer.stride or (1,) * len(weight.kernel),
    )
