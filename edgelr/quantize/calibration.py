"""Calibration data: what the graphs of a package are fed with, made of texts, or given as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgelr.artifacts import Graph, Package, Source
from edgelr.errors import DataError
from edgelr.examples import AnyExample
from edgelr.kinds.kind import kind_of
from edgelr.quantize.schemes import CALIBRATED
from edgelr.quantize.static import Feeds
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.graph_inputs import check_inputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Data:
    """What quantization may look at, besides the package: never the examples that it is judged by.

    Attributes:
        feeds: By role, what each graph is fed with, a call an entry.
        validation: What accuracy control measures the drop on.
        folder: Where their own files are.
    """

    feeds: Mapping[str, Sequence[Feeds]]
    validation: Sequence[AnyExample] = ()
    folder: Path = Path()


def data_of_source(package: Package, source: Source) -> Data:
    """The calibration and validation splits that a package was built with.

    Args:
        package: In fp32.
        source: Its data.

    Raises:
        UnsupportedModelError: The task is unknown.
    """
    kind, folder = kind_of(package), source.folder / "data"
    feeds = kind.feeds(package, source.examples("calibration", kind.EXAMPLE), folder)
    return Data(feeds=feeds, validation=source.examples("validation", kind.EXAMPLE), folder=folder)


def data_of_package(package: Package) -> Data:
    """The package's own examples, for want of others: what is calibrated on them is also tested on them.

    Args:
        package: In fp32.

    Raises:
        DamagedArtifactError: The examples are unusable.
        UnsupportedModelError: The task is unknown.
    """
    from edgelr.runtime.examples import folder_examples

    kind = kind_of(package)
    examples = folder_examples(package.folder, kind.EXAMPLE)
    feeds = kind.feeds(package, examples, package.folder)
    return Data(feeds=feeds, validation=examples, folder=package.folder)


def read_feeds(path: Path, graph: Graph) -> list[Feeds]:
    """Read calibration data of a graph.

    Args:
        path: An ``.npz`` file. An array is called as its input, ``input_ids``, or, of several calls, with a
            number behind it, ``input_ids.0``, as in a package's ``reference.npz``.
        graph: What it is for.

    Raises:
        DamagedArtifactError: The file is missing or is no ``.npz``.
        DataError: It does not fit the graph.
    """
    from edgelr.runtime.arrays import read_arrays

    calls: dict[str, dict[str, NDArray[np.generic]]] = {}
    names = {entry.name for entry in graph.inputs}
    for key, array in read_arrays(path).items():
        stem, _, number = key.rpartition(".")
        name, call = (stem, number) if key not in names and number.isdecimal() else (key, "")
        if name in names:  # other arrays are not inputs: a reference.npz has outputs as well
            calls.setdefault(call, {})[name] = array
    feeds: list[Feeds] = list(calls.values())
    check_feeds(feeds, graph, str(path))
    return feeds


def check_feeds(feeds: Sequence[Feeds], graph: Graph, where: str) -> None:
    """Make sure that a graph can be run on calibration data, and that it consists of numbers.

    Args:
        feeds: A call an entry.
        graph: What it is for.
        where: What an error names.

    Raises:
        DataError: There is none, or an array is missing, of another type or shape, or has NaN in it.
    """
    if not feeds:
        wanted = ", ".join(entry.name for entry in graph.inputs)
        raise DataError(f"{where}: no calibration data for {graph.file}", f"it needs arrays named {wanted}")
    for number, given in enumerate(feeds):
        check_inputs(given, graph, f"{where}: call {number}")


def check_blind(settings: Quantize) -> None:
    """Make sure that nothing looks at calibration data, where there is none.

    Args:
        settings: The recipe's section.

    Raises:
        DataError: Something does.
    """
    looking: list[str] = [scheme for scheme in settings.schemes if scheme in CALIBRATED]
    if settings.activations == "relu":
        looking.append("activations: relu")
    if looking:
        raise DataError(f"{', '.join(looking)} needs calibration data", "give some, or choose something else")
