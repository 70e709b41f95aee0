"""What ``edgelr show`` says about a path, and ``edgelr devices`` about this host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import DamagedArtifactError, UsageError
from edgelr.terminal import columns, say

if TYPE_CHECKING:
    from edgelr.artifacts import Package

RECIPE_SUFFIXES = {".yaml", ".yml"}
MARKERS = {"manifest.json", "package.json", "report.json"}


def explain(path: Path) -> dict[str, Any]:
    """Explain a package, an artifact of the store, an --out folder or a recipe.

    Args:
        path: The folder, the JSON file that makes it what it is, or a recipe.

    Returns:
        What was found, under ``kind`` and ``path`` and the kind's own keys.

    Raises:
        UsageError: It is nothing of edgelr's.
        DamagedArtifactError: Its files do not match its manifest.
    """
    if path.suffix in RECIPE_SUFFIXES and not path.is_dir():
        return _recipe(path)
    folder = path.parent if path.name in MARKERS else path
    if not folder.exists():
        raise UsageError(
            f"{path} does not exist", "give a package, a store artifact, an --out folder or a recipe"
        )
    if (folder / "manifest.json").is_file():
        return _artifact(folder)
    if (folder / "package.json").is_file():
        return _package(folder)
    if (folder / "report.json").is_file():
        return _report(folder)
    raise UsageError(
        f"{path} is not a package, a store artifact, an --out folder or a recipe",
        f"a folder of edgelr's has one of {', '.join(sorted(MARKERS))}; a recipe ends in .yaml",
    )


def list_devices() -> dict[str, Any]:
    """List every device profile, and whether it can run here.

    Returns:
        ``{"devices": [...]}``: each profile, with ``available`` and ``reason``.
    """
    from edgelr.device.host import availability
    from edgelr.device.load import load_devices

    rows = []
    for device in load_devices().values():
        available, reason = availability(device)
        rows.append({**asdict(device), "available": available, "reason": reason})
    heading = ("name", "title", "provider", "evidence", "threads")
    table = [
        (*(str(row[key]) for key in heading), "yes" if row["available"] else row["reason"]) for row in rows
    ]
    say(columns([(*heading, "can run here"), *table]))
    return {"devices": rows}


def _recipe(path: Path) -> dict[str, Any]:
    """A recipe with every default filled in."""
    from ruamel.yaml import YAML

    from edgelr.recipe.load import load_recipe

    recipe = load_recipe(path).model_dump(mode="json", by_alias=True, exclude_none=True)
    text = StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.dump(recipe, text)
    say(f"# {path}: a recipe, every default filled in\n{text.getvalue().rstrip()}")
    return {"kind": "recipe", "path": str(path), "recipe": recipe}


def _artifact(folder: Path) -> dict[str, Any]:
    """An artifact of the store, each file checked."""
    from edgelr.store import verify

    manifest = verify(folder)
    total = sum(file["bytes"] for file in manifest["files"].values())
    rows = [("stage", manifest["stage"]), ("key", manifest["key"]), ("built in", f"{manifest['seconds']} s")]
    rows += [(f"from {name}", key) for name, key in manifest["inputs"].items()]
    rows += [("size", _megabytes(total)), ("files", f"{len(manifest['files'])}, every sha256 is right")]
    _say(f"{folder}: an artifact of the store", rows, _file_rows(manifest["files"]))
    return {"kind": "artifact", "path": str(folder), **manifest}


def _package(folder: Path) -> dict[str, Any]:
    """A package, each file checked."""
    from edgelr.runtime.package import open_package
    from edgelr.runtime.variants import with_variants

    package = open_package(folder)
    others = [(name, each) for name, each in with_variants(package).items() if each is not package]
    rows = [
        ("name", package.name),
        ("task", package.task),
        ("precision", package.precision),
        ("size", _megabytes(package.cost.bytes)),
        ("parameters", f"{package.cost.parameters:,}"),
        *((f"source {name}", value) for name, value in package.source.items()),
        *((name, f"{value:.4f} (as validated)") for name, value in package.accuracy.items()),
        *((f"variant {name}", f"{each.precision}, {_megabytes(each.cost.bytes)}") for name, each in others),
        ("files", f"{len(package.files)}, every sha256 is right"),
    ]
    _say(f"{folder}: a package", rows, _graph_rows(package))
    document = {name: value for name, value in asdict(package).items() if name != "folder"}
    return {"kind": "package", "path": str(folder), **document}


def _report(folder: Path) -> dict[str, Any]:
    """An --out folder: the verdict of its report."""
    from edgelr.artifact_files import read_json

    document = read_json(folder / "report.json")
    try:
        rows = [("verdict", "passed" if document["passed"] else "failed")]
        for name, cost in document["model"].items():
            rows.append((name, f"{_megabytes(cost['bytes'])}, {cost['parameters']:,} parameters"))
        for gate in document["gates"]:
            word = "passed" if gate["passed"] else "FAILED"
            rows.append((f"gate {gate['gate']}", f"{word}: {gate['value']} (limit {gate['limit']})"))
        stages = [(row["stage"], f"{row['seconds']:.1f} s", row["key"][:12]) for row in document["stages"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedArtifactError(
            f"{folder / 'report.json'} is not a report: {error!r}", "build again"
        ) from error
    _say(f"{folder}: a build of {document['recipe']['name']}", rows, stages)
    say(f"\n{folder / 'report.md'} has every figure")
    return {"kind": "build", "path": str(folder), "report": document}


def _file_rows(files: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    return [(name, f"{file['bytes']:,} bytes", file["sha256"][:12]) for name, file in files.items()]


def _graph_rows(package: Package) -> list[tuple[str, ...]]:
    """Inputs and outputs of every graph."""
    rows: list[tuple[str, ...]] = []
    for role, graph in package.graphs.items():
        for way, tensors in (("in", graph.inputs), ("out", graph.outputs)):
            shape = [(each.name, f"{each.dtype}[{', '.join(map(str, each.shape))}]") for each in tensors]
            rows += [(role, graph.file, way, *each) for each in shape]
    return rows


def _say(title: str, rows: Iterable[tuple[str, str]], details: Sequence[Sequence[str]]) -> None:
    say(f"{title}\n{columns(list(rows))}")
    if details:
        say(f"\n{columns(details)}")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB"
