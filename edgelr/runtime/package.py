"""The package, what an app ships: sealed with a hash of every file, and checked before any file is used.

``package.json`` lists every file with its sha256, but three: itself, ``session.json`` (measured settings that
a rebuild may change), and ``manifest.json`` (the store writes it, and it never leaves the store).
``cost.bytes`` is the sum of the files that an app has to ship: those listed but the sounds in ``audio/`` and
the arrays in ``arrays/``, which only ``edgelr validate`` needs, ``ort/``, the same graphs in another format,
and what is compiled for chips in ``qnn/``, which an app takes in place of the graphs. These folders may be
deleted; the manifest itself takes a few KiB. So may a variant, a folder that is a package of its own, which
other devices take in place of all this: the manifest has the sha256 of the variant's, which has its files'.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

from edgelr.artifact_files import read_json
from edgelr.artifacts import Cost, Graph, Package
from edgelr.errors import DamagedArtifactError, UsageError
from edgelr.runtime.graph import check_external_data
from edgelr.typed import WrongTypeError, typed
from edgelr.writing import atomic_write_text, plain_files

FORMAT = 1
MANIFEST = "package.json"
SESSION = "session.json"
FEATURES = "features"  # role of the graph that makes a model's input of sound; its numbers stay exact
SOUNDS = "audio/"
COMPILED = "qnn/"  # what is compiled for chips, a folder each
ARRAYS = "arrays/"  # inputs of the examples, and what the dense model gives for them
ORT = "ort/"  # the graphs in ONNX Runtime's own format, and which operators a reduced build of it needs
QUANTIZATION = "quantization.json"  # of a quantized package: what each layer became, and what that costs
UNLISTED = frozenset({MANIFEST, SESSION, "manifest.json"})
AGAIN = "do not use this package; get it again from where it was built, or build it again"

# What session.json may set. It is not hashed, so nothing that reads or writes a file may be among it.
_TUNABLE = ("optimization.", "session.intra_op.", "session.inter_op.", "session.disable_prepacking", "mlas.")


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    edgelr: Literal[1]
    name: str
    task: str
    graphs: dict[str, Graph]
    precision: str
    cost: Cost
    settings: dict[str, int | str]
    source: dict[str, str]
    gates: tuple[dict[str, Any], ...]
    accuracy: dict[str, float]
    files: dict[str, str]
    variants: dict[str, str] = field(default_factory=dict)


def precisions(package: Package) -> tuple[str, ...]:
    """The precision of a package, and those of layers that have another.

    Args:
        package: As opened by ``open_package``.

    Raises:
        DamagedArtifactError: What it says of its layers cannot be read.
    """
    if QUANTIZATION not in package.files:
        return (package.precision,)
    path = package.folder / QUANTIZATION
    try:
        schemes = [str(row["scheme"]) for row in read_json(path)["layers"]]
    except (LookupError, TypeError) as error:
        raise DamagedArtifactError(f"{path} does not list the layers: {error!r}", AGAIN) from error
    return tuple(dict.fromkeys((package.precision, *sorted(schemes))))


def seal_package(  # noqa: PLR0913 - the package is of everything
    folder: Path,
    *,
    name: str,
    task: str,
    graphs: Mapping[str, Graph],
    precision: str,
    cost: Cost,
    settings: Mapping[str, int | str],
    source: Mapping[str, str],
    gates: Sequence[Mapping[str, Any]],
    accuracy: Mapping[str, float],
    variants: Sequence[str] = (),
) -> Package:
    """Write ``package.json`` over the files that are in ``folder``; the same input gives the same bytes.

    Args:
        folder: Holds every file of the package.
        name: The recipe's name.
        task: Task type.
        graphs: By role; each file is in ``folder``.
        precision: ``fp32`` or the quantization scheme.
        cost: Its ``bytes`` are replaced by those of the files.
        settings: What the runtime needs to turn raw input into graph input.
        source: Model title, fingerprint, recipe hash.
        gates: The recipe's gates.
        accuracy: As validated: metric -> value.
        variants: Folders in it that are sealed packages of their own, in the order that devices look.

    Raises:
        DamagedArtifactError: A graph is missing, or its external data is elsewhere, or there is a link.
        StorageError: The manifest cannot be written.
    """
    files = {file: _sha256(path) for file, path in _content(folder, variants).items()}
    package = Package(
        folder=folder,
        name=name,
        task=task,
        graphs=dict(sorted(graphs.items())),
        precision=precision,
        cost=replace(cost, bytes=sum((folder / file).stat().st_size for file in files if _shipped(file))),
        settings=dict(sorted(settings.items())),
        source=dict(sorted(source.items())),
        gates=tuple(dict(gate) for gate in gates),
        accuracy=dict(accuracy),
        files=files,
        variants={variant: _sha256(folder / variant / MANIFEST) for variant in variants},
    )
    _check_graphs(package)
    said = asdict(package)
    del said["folder"], said["metric"], said["session"]
    if not variants:  # what has none is what it was before there were any
        del said["variants"]
    atomic_write_text(folder / MANIFEST, _json({"edgelr": FORMAT, **said}))
    return package


def open_package(folder: Path) -> Package:
    """Open a package after checking everything in it against its manifest; nothing is executed.

    Args:
        folder: The folder that holds ``package.json``.

    Raises:
        UsageError: The path is not a package.
        DamagedArtifactError: The manifest is malformed, or a file is missing, too much, changed, or outside.
    """
    _check_is_package(folder)
    manifest = _read_manifest(folder / MANIFEST)
    said = {each.name: getattr(manifest, each.name) for each in fields(manifest) if each.name != "edgelr"}
    package = Package(folder=folder, **said)
    for file in package.files:
        _check_name(folder, file)
    _check_variants(package)
    content = _content(folder, package.variants)
    for file in package.files:
        if file not in content and _shipped(file):
            raise DamagedArtifactError(f"{folder / file} is missing", AGAIN)
    for file, path in content.items():
        if file not in package.files:
            raise DamagedArtifactError(f"{path} is not in {MANIFEST}", "delete it, or get the package again")
        if _sha256(path) != package.files[file]:
            raise DamagedArtifactError(f"{path} was changed: its sha256 is not that of {MANIFEST}", AGAIN)
    _check_graphs(package)
    return package


def session_entries(package: Package, device: str) -> dict[str, str]:
    """Session settings measured as best for a device, in this build or by ``session.json``; maybe none.

    Args:
        package: The package.
        device: Name of the device profile.

    Raises:
        DamagedArtifactError: The file is malformed or sets something that is not about speed.
    """
    if package.session is not None:
        return package.session.get(device, {})
    path = package.folder / SESSION
    if not path.is_file():
        return {}
    document = read_json(path)
    entries = document.get(device, {}) if isinstance(document, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
        raise DamagedArtifactError(
            f"{path} is not device -> setting -> text", f"delete {SESSION}, or measure it again"
        )
    for entry in entries:
        if not entry.startswith(_TUNABLE):
            raise DamagedArtifactError(
                f"{path} sets {entry!r}, which is not about speed", f"delete {SESSION}"
            )
    return entries


def model_path(package: Package, role: str = "model") -> Path:
    """The ONNX file of one role.

    Args:
        package: The package.
        role: Name of the graph.

    Raises:
        DamagedArtifactError: The package has no such graph.
    """
    if role not in package.graphs:
        raise DamagedArtifactError(f"{package.folder / MANIFEST}: there is no graph {role!r}", AGAIN)
    return package.folder / package.graphs[role].file


def _check_is_package(folder: Path) -> None:
    if (folder / MANIFEST).is_file():
        return
    if not folder.exists():
        raise UsageError(f"there is no package at {folder}", "give the folder that holds package.json")
    if folder.name == MANIFEST:
        raise UsageError(f"{folder} is a file", f"give its folder: {folder.parent}")
    inside = next(
        (folder / name for name in ("package", "rejected") if (folder / name / MANIFEST).is_file()), None
    )
    hint = "give the folder that holds package.json" if inside is None else f"the package is in it: {inside}"
    raise UsageError(f"{folder} is not a package: it has no {MANIFEST}", hint)


def _read_manifest(path: Path) -> _Manifest:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedArtifactError(f"{path} cannot be read: {error}", AGAIN) from error
    written = document.get("edgelr") if isinstance(document, dict) else None
    if isinstance(written, int) and written > FORMAT:
        raise DamagedArtifactError(f"{path} has format {written}, newer than {FORMAT}", "update edgelr")
    try:
        return typed(_Manifest, document)
    except WrongTypeError as error:
        raise DamagedArtifactError(
            f"{path}: {error.where or 'it'} is malformed: {error.reason}", AGAIN
        ) from error


def _check_name(folder: Path, file: str) -> None:
    posix, windows = PurePosixPath(file), PureWindowsPath(file)
    outside = posix.is_absolute() or bool(windows.anchor) or ".." in windows.parts
    if outside or posix.as_posix() != file or file in UNLISTED:
        raise DamagedArtifactError(
            f"{folder / MANIFEST} names a file outside its folder, or itself: {file}", AGAIN
        )


def _check_variants(package: Package) -> None:
    """Their manifests are those that were sealed in; what these list is checked when one is opened."""
    for variant, sha256 in package.variants.items():
        _check_name(package.folder, f"{variant}/{MANIFEST}")
        path = package.folder / variant / MANIFEST
        if path.is_file() and _sha256(path) != sha256:
            raise DamagedArtifactError(f"{path} was changed: its sha256 is not that of {MANIFEST}", AGAIN)


def _shipped(file: str) -> bool:
    return not file.startswith((SOUNDS, ARRAYS, ORT, COMPILED))


def _check_graphs(package: Package) -> None:
    for graph in package.graphs.values():
        if graph.file not in package.files:
            raise DamagedArtifactError(
                f"{package.folder / MANIFEST}: the graph {graph.file!r} is not a file of it", AGAIN
            )
    for file in package.files:
        if file.endswith(".onnx"):
            within = PurePosixPath(file).parent
            beside = {PurePosixPath(other).relative_to(within).as_posix() for other in package.files
                      if PurePosixPath(other).is_relative_to(within)}  # fmt: skip
            check_external_data(package.folder / file, beside)


def _content(folder: Path, variants: Collection[str]) -> dict[str, Path]:
    """Every file that the manifest has to list, sorted; links and pipes are refused wherever they are."""
    found = {path.relative_to(folder).as_posix(): path for path in plain_files(folder)}
    own = (file for file in sorted(found) if file.partition("/")[0] not in variants)
    return {file: found[file] for file in own if file not in UNLISTED}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
