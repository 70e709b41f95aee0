"""Stage quantize: Package -> Package."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from edgelr.artifact_files import write_json
from edgelr.artifacts import Package
from edgelr.errors import DataError, QuantizeError
from edgelr.kinds.kind import kind_of
from edgelr.progress import Progress
from edgelr.quantize.bounds import affordable_examples
from edgelr.quantize.calibration import Data, check_blind, check_feeds
from edgelr.quantize.choice import Choice, check_globs, choose
from edgelr.quantize.control import MOST_EVALUATIONS, Controlled, control
from edgelr.quantize.drop import drop_of
from edgelr.quantize.error_list import LayerError, list_errors
from edgelr.quantize.facts import QUANTIZATION, facts
from edgelr.quantize.fastest import SchemeTimes, fastest_choices, main_scheme
from edgelr.quantize.graphs import (
    Prepared,
    prepare_graph,
    quantize_prepared,
    quantized_graphs,
)
from edgelr.quantize.learned import Learned, learn
from edgelr.quantize.left import Left, fp32_left, weight_bytes
from edgelr.quantize.rectify import prepared_for, rectified
from edgelr.quantize.schemes import narrowed
from edgelr.quantize.static import Feeds
from edgelr.quantize.units import units_of
from edgelr.recipe.quantize import LayerScheme, Quantize
from edgelr.runtime.graph import describe_graph
from edgelr.runtime.package_copy import copy_files, seal_again
from edgelr.runtime.shared_weights import WEIGHTS, share_weights

AllChoices = Mapping[str, Mapping[str, Choice]]


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One quantization of a package.

    Attributes:
        package: In fp32.
        settings: The recipe's section.
        graphs: By role, prepared.
        data: What may be looked at; None for a yardstick, which is not explained.
        times: What the scheme auto chooses by; None of others.
        tuned: Whether the weights were tuned for plain rounding.
        progress: Where to show how far it is.
    """

    package: Package
    settings: Quantize
    graphs: Mapping[str, Prepared]
    data: Data | None
    times: SchemeTimes | None
    tuned: bool
    progress: Progress

    @cached_property
    def learned(self) -> dict[str, Learned | None]:
        """By role, what calibration data tells; None without any, and of weights tuned for plain rounding."""
        return {
            role: None if self.tuned else learn(graph.path, self.feeds(role))
            for role, graph in self.graphs.items()
        }

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
    package: Package,
    settings: Quantize,
    folder: Path,
    progress: Progress,
    data: Data | None = None,
    times: SchemeTimes | None = None,
    *,
    tuned: bool = False,
) -> Package:
    """Quantize every graph of a package.

    Args:
        package: An fp32 package; not changed.
        settings: The recipe's section.
        folder: Where the quantized package is written.
        progress: Where to show how far it is.
        data: Calibration and validation data; without any, no scheme may look at it and nothing is explained.
        times: What the scheme auto chooses by, of this package; not needed for others.
        tuned: Whether the weights were tuned to be rounded plainly, which then is the best.

    Raises:
        DataError: Calibration data is missing, or does not fit a graph.
        QuantizeError: It is quantized already or cannot be, a glob matches nothing, a matrix stayed fp32, an
            output is too far from fp32, a metric drops too much, or nothing is faster than fp32.
    """
    _check_package(package, settings, data)
    _copy_others(package, folder)
    with tempfile.TemporaryDirectory() as scratch:
        work = _Work(
            package=package,
            settings=settings,
            graphs=prepared_for(package, settings, data, Path(scratch), progress),
            data=data,
            times=times,
            tuned=tuned,
            progress=progress,
        )
        check_globs([layer.name for graph in work.graphs.values() for layer in graph.layers], settings)
        choices, controlled = _choices(work, Path(scratch))
        precision = _precision(work, choices)
        islands = work.write(choices, folder)
        if data is not None:
            _explain(work, choices, controlled, islands, folder)
    if len(work.graphs) > 1:
        saved = share_weights([folder / graph.file for graph in quantized_graphs(package).values()])
        progress.note(f"{saved / 1e6:.2f} MB that the graphs have in common are stored once")
    _check_close(package, settings, folder, progress)
    graphs = {role: describe_graph(folder / graph.file) for role, graph in package.graphs.items()}
    return seal_again(replace(package, graphs=graphs, precision=precision, accuracy={}), folder)


def quantize_graph(
    source: Path,
    target: Path,
    settings: Quantize,
    feeds: Sequence[Feeds] = (),
    times: SchemeTimes | None = None,
) -> tuple[Left, ...]:
    """Quantize the matrices and the tables of one graph.

    Args:
        source: The fp32 graph.
        target: Where to write the quantized one.
        settings: The schemes.
        feeds: Calibration data, where a scheme looks at any.
        times: What the scheme auto chooses by, of a role ``model``; not needed for others.

    Returns:
        What stayed fp32.

    Raises:
        DataError: A scheme looks at calibration data, and there is none.
        QuantizeError: It is quantized already, cannot be, a glob matches nothing, a matrix stayed fp32, or
            nothing is faster than fp32.
    """
    if not feeds:
        check_blind(settings)
    with tempfile.TemporaryDirectory() as scratch:
        graph = prepare_graph(source, Path(scratch))
        if settings.activations == "relu":
            graph, _ = rectified(graph, feeds)
        check_globs([layer.name for layer in graph.layers], settings)
        fastest = None if times is None else fastest_choices(graph.layers, "model", times)
        choices = choose(graph.layers, settings, fastest)
        if times is not None:
            main_scheme([(layer, choices) for layer in graph.layers], times.device)  # or there is none
        islands = quantize_prepared(graph, target, choices, settings, feeds, learn(graph.path, feeds))
        return fp32_left(graph.path, target, graph.layers, choices, islands)


def _check_package(package: Package, settings: Quantize, data: Data | None) -> None:
    if package.precision != "fp32":
        raise QuantizeError(
            f"{package.folder} is {package.precision} already", "quantize the fp32 package it was made of"
        )
    if data is not None:
        for role, graph in quantized_graphs(package).items():
            check_feeds(data.feeds.get(role, ()), graph, f"calibration data of {package.name}")
    else:
        check_blind(settings)
    if settings.max_drop is not None and (data is None or not data.validation):
        raise DataError("quantize.max_drop needs validation examples", "give some, or leave it out")


def _copy_others(package: Package, folder: Path) -> None:
    graphs = {graph.file for graph in quantized_graphs(package).values()}
    others = (file for file in package.files if file.removesuffix(".data") not in graphs and file != WEIGHTS)
    copy_files(package, folder, others)


def _choices(work: _Work, scratch: Path) -> tuple[AllChoices, Controlled | None]:
    """The recipe's choices, or what accuracy control makes of them."""
    settings = work.settings
    choices = {role: _chosen(work, role, graph) for role, graph in work.graphs.items()}
    if settings.max_drop is None or work.data is None:
        return choices, None
    layers = [layer for graph in work.graphs.values() for layer in graph.layers]
    data = affordable_examples(work.data, layers, work.progress)
    drop = drop_of(work.package, data, settings.scheme, settings.max_drop)
    folder = scratch / "controlled"
    folder.mkdir()
    work.write(choices, folder)
    errors = {role: _errors(work, role, choices, folder) for role in work.graphs}
    units = units_of(work.graphs, choices, errors, settings)
    with work.progress.bar("accuracy control, evaluations at most", MOST_EVALUATIONS) as advance:

        def measured(choices: AllChoices) -> float:
            work.write(choices, folder)
            lost = drop(folder)
            advance(note=f"a drop of {lost:.4g}")
            return lost

        found = control(choices, units, settings, measured)
    kept = f"{len(found.kept)} of {sum(map(len, choices.values()))} layers kept at higher precision"
    work.progress.note(
        f"{settings.max_drop.metric} drops by {found.drop:.4g} ({found.without:.4g} without): {kept}, "
        f"{found.evaluations} evaluations"
    )
    return found.choices, found


def _chosen(work: _Work, role: str, graph: Prepared) -> dict[str, Choice]:
    fastest = None if work.times is None else fastest_choices(graph.layers, role, work.times)
    return choose(graph.layers, work.settings, fastest)


def _precision(work: _Work, choices: AllChoices) -> LayerScheme:
    """What the package is called: the recipe's scheme, or what most of it became by auto."""
    if work.settings.scheme != "auto":
        return work.settings.scheme
    assert work.times is not None
    layers = [(layer, choices[role]) for role, graph in work.graphs.items() for layer in graph.layers]
    return main_scheme(layers, work.times.device)


def _errors(work: _Work, role: str, choices: AllChoices, folder: Path) -> tuple[LayerError, ...]:
    """Held against the fp32 graph whose channels are as narrow as those of the quantized one."""
    file, graph = folder / work.package.graphs[role].file, work.graphs[role]
    with tempfile.TemporaryDirectory() as scratch:
        source = narrowed(graph.path, Path(scratch), graph.layers, choices[role], work.learned[role])
        same = replace(graph, path=source)
        return list_errors(same, file, choices[role], work.feeds(role), work.progress)


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
        work.times,
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
