"""The two sides of a comparison: a package or an ONNX file each, and the input that both are timed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import UsageError
from edgelr.kinds.kind import kind_of
from edgelr.runtime.graph import describe_graph, graph_bytes
from edgelr.runtime.package import MANIFEST, model_path, open_package, session_entries
from edgelr.timing.inputs import made_up_inputs

if TYPE_CHECKING:
    from edgelr.artifacts import Graph, Package

_ALIKE = "compare like with like"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side.

    Attributes:
        name: ``base`` or ``candidate``.
        path: What was named on the command line.
        model: The ONNX file.
        graph: What goes in and out.
        package: What the file belongs to, if anything.
    """

    name: str
    path: Path
    model: Path
    graph: Graph
    package: Package | None

    @property
    def bytes(self) -> int:
        """Size on disk: of the package, or of the file and its external weights."""
        return graph_bytes(self.model) if self.package is None else self.package.cost.bytes

    def entries(self, device: str) -> dict[str, str]:
        """Session settings that the package brings for a device."""
        return {} if self.package is None else session_entries(self.package, device)


def open_side(name: str, path: Path) -> Side:
    """Open a package folder or an ONNX file.

    Args:
        name: ``base`` or ``candidate``.
        path: A folder with a ``package.json``, or an ``.onnx`` file.

    Raises:
        UsageError: It is neither, or a package of several graphs.
        DamagedArtifactError: The package does not match its manifest, or the file is no ONNX model.
    """
    if path.is_dir() and (path / MANIFEST).is_file():
        package = open_package(path)
        if len(package.graphs) > 1:
            files = " and ".join(graph.file for graph in package.graphs.values())
            raise UsageError(
                f"{name}: {path} has several graphs ({files}), which cannot be compared as a whole yet",
                "compare one of its files: give the .onnx file in place of the package",
            )
        (graph,) = package.graphs.values()
        return Side(name=name, path=path, model=model_path(package), graph=graph, package=package)
    if path.is_file():
        return Side(name=name, path=path, model=path, graph=describe_graph(path), package=None)
    found = "a folder without a package.json" if path.is_dir() else "not there"
    raise UsageError(f"{name}: {path} is {found}", "give a package or an .onnx file")


def common_inputs(base: Side, candidate: Side, tokens: int, sizes: Mapping[str, int]) -> dict[str, Any]:
    """One input for both sides, as ``timing/worker.py`` takes it.

    A package is timed with its own examples, the base's; graphs with random numbers and ones, of the shape
    that ``sizes`` gives their dynamic axes.

    Args:
        base: One side.
        candidate: The other.
        tokens: Length of the text, for packages.
        sizes: Axis name -> size, for graphs.

    Raises:
        UsageError: The sides do different things, or an axis has no size.
        UnsupportedModelError: The package's task is unknown.
    """
    _check_alike(base, candidate)
    if base.package is not None and candidate.package is not None:
        return kind_of(base.package).timed_inputs(base.package, tokens)
    return made_up_inputs(base.path, base.graph, sizes)


def _check_alike(base: Side, candidate: Side) -> None:
    tasks = [side.package.task for side in (base, candidate) if side.package is not None]
    if len(set(tasks)) > 1:
        raise UsageError(f"base is a package for {tasks[0]}, candidate one for {tasks[1]}", _ALIKE)
    one, other = (
        {entry.name: (entry.dtype, len(entry.shape)) for entry in side.graph.inputs}
        for side in (base, candidate)
    )
    if different := sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)):
        raise UsageError(f"base and candidate take different inputs: {', '.join(different)}", _ALIKE)
