"""The two sides of a comparison: a package or an ONNX file each, and the input that both are timed with."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import UsageError
from edgelr.kinds.kind import kind_of
from edgelr.recipe.compare import PARTS
from edgelr.runtime.external_data import external_locations
from edgelr.runtime.generation import GENERATION, read_generation
from edgelr.runtime.graph import describe_graph, graph_bytes
from edgelr.runtime.package import MANIFEST, open_package
from edgelr.runtime.variants import package_for
from edgelr.timing.inputs import made_up_inputs
from edgelr.timing.spinning import calmed

if TYPE_CHECKING:
    from edgelr.artifacts import Graph, Package
    from edgelr.device.schema import Device

_ALIKE = "compare like with like"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side.

    Attributes:
        name: ``base`` or ``candidate``.
        path: What is compared.
        graphs: What goes in and out, by role; a file alone has the role ``""``.
        package: What the graphs belong to, if anything.
    """

    name: str
    path: Path
    graphs: dict[str, Graph]
    package: Package | None

    @property
    def bytes(self) -> int:
        """Size on disk: of the package, or of the file and its external weights."""
        return graph_bytes(self.path) if self.package is None else self.package.cost.bytes

    @property
    def parts(self) -> tuple[str, ...]:
        """What is timed of a call besides the whole: its graphs, where it runs several."""
        return () if self.package is None else PARTS.get(self.package.task, ())

    def opening(self, device: Device) -> dict[str, Any]:
        """What ``timing/worker.py`` is to open: the whole task of a package, or the file."""
        call: dict[str, Any] = (
            {"model": str(self.path)}
            if self.package is None
            else kind_of(self.package).timed(self.package, device)
        )
        # Threads of a side that waits would slow the other.
        return {**call, "entries": calmed(call.get("entries", {}))}


def open_side(name: str, path: Path, device: Device | None = None) -> Side:
    """Open a package folder or an ONNX file.

    Args:
        name: ``base`` or ``candidate``.
        path: A folder with a ``package.json``, or an ``.onnx`` file.
        device: Where it is to run: of a package with variants, the one that this device takes.

    Raises:
        UsageError: It is neither.
        DamagedArtifactError: The package does not match its manifest, or the file is no ONNX model.
    """
    if path.is_dir() and (path / MANIFEST).is_file():
        package = open_package(path)
        package = package if device is None else package_for(package, device)
        return Side(name=name, path=package.folder, graphs=package.graphs, package=package)
    if path.is_file():
        return Side(name=name, path=path, graphs={"": describe_graph(path)}, package=None)
    found = "a folder without a package.json" if path.is_dir() else "not there"
    raise UsageError(
        f"{name}: {path} is {found}",
        "give a package, an .onnx file, or a recipe of a git revision such as main:recipes/docs-search.yaml",
    )


def common_inputs(
    base: Side, candidate: Side, *, tokens: int, audio_s: int, sizes: Mapping[str, int]
) -> dict[str, Any]:
    """One input for both sides, as ``timing/worker.py`` takes it.

    Packages are timed with the base's own examples; graphs with random numbers and ones, of the shape that
    ``sizes`` gives their dynamic axes.

    Args:
        base: One side.
        candidate: The other.
        tokens: Length of the text, for packages; fewer where one of them takes no more.
        audio_s: Of the sound, for packages of speech.
        sizes: Axis name -> size, for graphs.

    Raises:
        UsageError: The sides do different things, or an axis has no size.
        UnsupportedModelError: The package's task is unknown.
    """
    packages = [side.package for side in (base, candidate) if side.package is not None]
    if len({package.task for package in packages}) > 1:
        raise UsageError(
            f"base is a package for {packages[0].task}, candidate one for {packages[1].task}", _ALIKE
        )
    if len(packages) == 2:
        kind = kind_of(packages[0])
        longest = min(tokens, *(_most_tokens(package, tokens) for package in packages))
        lengths = {"s": audio_s, "rows": 1}
        return kind.timed_inputs(packages[0], lengths.get(kind.UNIT, longest))
    if packages and len(packages[0].graphs) > 1:
        raise UsageError("one side is a package of several graphs, the other a file", _ALIKE)
    _check_same_inputs(base, candidate)
    (graph,) = base.graphs.values()
    return made_up_inputs(base.path, graph, sizes)


def same_content(base: Side, candidate: Side) -> str | None:
    """What both sides have in common if that is everything: ``the same file`` or ``the same bytes``."""
    if base.path.samefile(candidate.path):
        return "the same package" if base.path.is_dir() else "the same file"
    if base.package is not None and candidate.package is not None:
        return "the same bytes" if base.package.files == candidate.package.files else None
    if base.package is None and candidate.package is None:
        pairs = zip(_files(base.path), _files(candidate.path), strict=False)
        alike = all(one.is_file() and filecmp.cmp(one, other, shallow=False) for one, other in pairs)
        return "the same bytes" if alike and base.bytes == candidate.bytes else None
    return None


def _files(model: Path) -> list[Path]:
    return [model, *sorted({model.parent / location for _, location in external_locations(model)})]


def _most_tokens(package: Package, wanted: int) -> int:
    """A longer text would be cut, and a package that writes has positions for its longest output only."""
    longest = int(package.settings.get("max_tokens", wanted))
    if GENERATION in package.files:
        longest = min(longest, read_generation(package.folder).max_length - 1)
    return longest


def _check_same_inputs(base: Side, candidate: Side) -> None:
    one, other = (
        {
            entry.name: (entry.dtype, len(entry.shape))
            for graph in side.graphs.values()
            for entry in graph.inputs
        }
        for side in (base, candidate)
    )
    if different := sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)):
        raise UsageError(f"base and candidate take different inputs: {', '.join(different)}", _ALIKE)
