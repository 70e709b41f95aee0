"""Stage quantize: Package -> Package."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgelr.artifact_files import write_json
from edgelr.artifacts import Graph, Package
from edgelr.errors import DataError, QuantizeError
from edgelr.kinds.kind import kind_of
from edgelr.progress import Progress
from edgelr.quantize.calibration import Data, check_feeds
from edgelr.quantize.choice import Choice, check_globs, choose
from edgelr.quantize.control import Controlled, Unit, control
from edgelr.quantize.drop import drop_of
from edgelr.quantize.error_list import LayerError, list_errors
from edgelr.quantize.facts import QUANTIZATION, facts
from edgelr.quantize.graphs import Prepared, prepare_graph, quantize_prepared
from edgelr.quantize.learned import Learned, learn
from edgelr.quantize.left import Left, fp32_left, weight_bytes
from edgelr.quantize.schemes import CALIBRATED
from edgelr.quantize.static import Feeds
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.graph import describe_graph
from edgelr.runtime.package import FEATURES, model_path, seal_package
from edgelr.runtime.shared_weights import WEIGHTS, share_weights

_LISTED = 8  # calls of each graph that the error list is measured on, evenly over the calibration data
_RUNS = 800  # of a graph, all layers together: fewer calls where there are hundreds of layers

AllChoices = Mapping[str, Mapping[str, Choice]]


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One quantization of a package.

    Attributes:
        package: In fp32.
        settings: The recipe's section.
        graphs: By role, prepared.
        data: What may be looked at; None for a yardstick, which is not explained.
        progress: Where to show how far it is.
    """

    package: Package
    settings: Quantize
    graphs: Mapping[str, Prepared]
    data: Data | None
    progress: Progress

    @cached_property
    def learned(self) -> dict[str, Learned | None]:
        """By role, what calibration data tells; None without data."""
        return {role: learn(graph.path, self.feeds(role)) for role, graph in self.graphs.items()}

    def feeds(self, role: str) -> Sequence[Feeds]:
        """Calibration data of a graph."""
        return () if self.data is None else self.data.feeds[role]

    def write(self, choices: AllChoices, folder: Path) -> dict[str, tuple[str, ...]]:
        """Quantize every graph into a folder; by role, what stayed fp32 because fp16 overflows."""
        return {
            role: quantize_prepared(
                graph,
                folder / self.package.graphs[role].file,
                choices[role],
                self.settings,
                self.feeds(role),
                self.learned[role],
            )
            for role, graph in self.graphs.items()
        }


def quantize(
    package: Package, settings: Quantize, folder: Path, progress: Progress, data: Data | None = None
) -> Package:
    """Quantize every graph of a package.

    Args:
        package: An fp32 package; not changed.
        settings: The recipe's section.
        folder: Where the quantized package is written.
        progress: Where to show how far it is.
        data: Calibration and validation data. Without any, no scheme may look at data, and what each layer
            loses is not listed.

    Raises:
        DataError: Calibration data is missing, or does not fit a graph.
        QuantizeError: The package is quantized already, a glob matches nothing, a matrix stayed fp32, a graph
            cannot be quantized, an output is too far from fp32, or a metric drops too much.
    """
    if package.precision != "fp32":
        raise QuantizeError(
            f"{package.folder} is {package.precision} already", "quantize the fp32 package it was made of"
        )
    _check_data(package, settings, data)
    _copy_others(package, folder)
    with tempfile.TemporaryDirectory() as scratch:
        prepared = {}
        for role in quantized_graphs(package):
            (Path(scratch) / role).mkdir()
            prepared[role] = prepare_graph(model_path(package, role), Path(scratch) / role)
        work = _Work(package=package, settings=settings, graphs=prepared, data=data, progress=progress)
        check_globs([layer.name for graph in prepared.values() for layer in graph.layers], settings)
        choices, controlled = _choices(work, Path(scratch))
        islands = work.write(choices, folder)
        if data is not None:
            _explain(work, choices, controlled, islands, folder)
    if len(prepared) > 1:
        saved = share_weights([folder / graph.file for graph in quantized_graphs(package).values()])
        progress.note(f"{saved / 1e6:.2f} MB that the graphs have in common are stored once")
    _check_close(package, settings, folder, progress)
    return seal_package(
        folder,
        name=package.name,
        task=package.task,
        graphs={role: describe_graph(folder / graph.file) for role, graph in package.graphs.items()},
        precision=settings.scheme,
        cost=package.cost,
        settings=package.settings,
        source=package.source,
        gates=package.gates,
        accuracy={},
    )


def quantize_graph(
    source: Path, target: Path, settings: Quantize, feeds: Sequence[Feeds] = ()
) -> tuple[Left, ...]:
    """Quantize the matrices and the tables of one graph.

    Args:
        source: The fp32 graph.
        target: Where to write the quantized one.
        settings: The schemes.
        feeds: Calibration data, where a scheme looks at any.

    Returns:
        What stayed fp32.

    Raises:
        DataError: A scheme looks at calibration data, and there is none.
        QuantizeError: It is quantized already, cannot be, a glob matches nothing, or a matrix stayed fp32.
    """
    if not feeds:
        _check_blind(settings)
    with tempfile.TemporaryDirectory() as scratch:
        graph = prepare_graph(source, Path(scratch))
        check_globs([layer.name for layer in graph.layers], settings)
        choices = choose(graph.layers, settings)
        islands = quantize_prepared(graph, target, choices, settings, feeds)
        return fp32_left(graph.path, target, graph.layers, choices, islands)


def quantized_graphs(package: Package) -> dict[str, Graph]:
    """By role, the graphs that are quantized: of sound, the signal processing stays as it is.

    16-bit samples have a range that 8 bits have not.
    """
    return {role: graph for role, graph in package.graphs.items() if role != FEATURES}


def _check_data(package: Package, settings: Quantize, data: Data | None) -> None:
    if data is not None:
        for role, graph in quantized_graphs(package).items():
            check_feeds(data.feeds.get(role, ()), graph, f"calibration data of {package.name}")
    else:
        _check_blind(settings)
    if settings.max_drop is not None and (data is None or not data.validation):
        raise DataError("quantize.max_drop needs validation examples", "give some, or leave it out")


def _check_blind(settings: Quantize) -> None:
    """Make sure that no scheme looks at data."""
    if wanted := [scheme for scheme in settings.schemes if scheme in CALIBRATED]:
        raise DataError(f"{', '.join(wanted)} needs calibration data", "give some, or choose another scheme")


def _copy_others(package: Package, folder: Path) -> None:
    graphs = {graph.file for graph in quantized_graphs(package).values()}
    for file in package.files:
        if file.removesuffix(".data") not in graphs and file != WEIGHTS:
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(package.folder / file, folder / file)


def _choices(work: _Work, scratch: Path) -> tuple[AllChoices, Controlled | None]:
    """The recipe's choices, or what accuracy control makes of them."""
    settings = work.settings
    choices = {role: choose(graph.layers, settings) for role, graph in work.graphs.items()}
    if settings.max_drop is None or work.data is None:
        return choices, None
    drop = drop_of(work.package, work.data, settings.scheme, settings.max_drop)
    folder = scratch / "controlled"
    folder.mkdir()

    def measured(choices: AllChoices) -> float:
        work.write(choices, folder)
        return drop(folder)

    work.write(choices, folder)
    errors = {role: _errors(work, role, choices, folder) for role in work.graphs}
    units = _units(work, choices, errors)
    found = control(choices, units, settings, measured)
    kept = f"{len(found.kept)} of {sum(map(len, choices.values()))} layers kept at higher precision"
    work.progress.note(
        f"{settings.max_drop.metric} drops by {found.drop:.4g} ({found.without:.4g} without): {kept}, "
        f"{found.evaluations} evaluations"
    )
    return found.choices, found


def _units(work: _Work, choices: AllChoices, errors: Mapping[str, Sequence[LayerError]]) -> list[Unit]:
    """The layers that have the recipe's scheme, those of one matrix together."""
    change = {(role, each.layer): each.output_change for role, found in errors.items() for each in found}
    matrices: dict[tuple[str, str], list[tuple[str, str]]] = {}
    numbers = {}
    for role, graph in work.graphs.items():
        for layer in graph.layers:
            if choices[role][layer.name].scheme == work.settings.scheme:
                matrices.setdefault((role, layer.matrix), []).append((role, layer.name))
                numbers[role, layer.matrix] = layer.numbers
    return [
        Unit(
            layers=tuple(layers),
            numbers=numbers[matrix],
            change=sum(change.get(layer, 0.0) for layer in layers),
        )
        for matrix, layers in matrices.items()
    ]


def _errors(work: _Work, role: str, choices: AllChoices, folder: Path) -> tuple[LayerError, ...]:
    feeds, layers = work.feeds(role), len(work.graphs[role].layers)
    taken = min(len(feeds), _LISTED, max(2, _RUNS // max(layers, 1)))
    few = [feeds[number * len(feeds) // taken] for number in range(taken)]
    file = folder / work.package.graphs[role].file
    return list_errors(work.graphs[role], file, choices[role], few, work.progress)


def _explain(
    work: _Work,
    choices: AllChoices,
    controlled: Controlled | None,
    islands: Mapping[str, tuple[str, ...]],
    folder: Path,
) -> None:
    """Write what became of each layer, what that costs, and what stayed fp32."""
    left = {
        role: fp32_left(
            graph.path, folder / work.package.graphs[role].file, graph.layers, choices[role], islands[role]
        )
        for role, graph in work.graphs.items()
    }
    document = facts(
        work.settings,
        choices,
        {role: _errors(work, role, choices, folder) for role in work.graphs},
        left,
        sum(weight_bytes(graph.path) for graph in work.graphs.values()),
        controlled,
    )
    write_json(folder / QUANTIZATION, document)
    for warning in document["warnings"]:
        work.progress.warn(warning)


def _check_close(package: Package, settings: Quantize, folder: Path, progress: Progress) -> None:
    for role, cosine in kind_of(package).compare(package, folder, progress).items():
        graph = package.graphs[role]
        progress.note(f"{graph.file}: {settings.scheme}, cosine {cosine:.4f} to fp32")
        if not cosine >= settings.min_cosine:
            raise QuantizeError(
                f"{graph.file}: the mean cosine of {settings.scheme} to fp32 is {cosine:.4f}, "
                f"quantize.min_cosine is {settings.min_cosine}",
                "leave the section out to keep fp32, or accept the loss with a lower min_cosine",
            )
