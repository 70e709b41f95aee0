"""What makes a folder an artifact: its ``manifest.json``, the key in it, and the check of every file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from edgelr.artifact_files import read_json
from edgelr.errors import DamagedArtifactError
from edgelr.writing import plain_files

SCHEMA = 1
MANIFEST = "manifest.json"
INGREDIENTS = ("schema", "stage", "inputs", "settings", "versions")
AGAIN = "build it again"


def ingredients_of(
    stage: str, inputs: Mapping[str, str], settings: object, versions: Mapping[str, str]
) -> dict[str, Any]:
    """Put together exactly what can change a stage's result.

    Raises:
        ValueError: The stage's name is not a plain file name, or a setting is not a JSON value.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]*", stage) is None:
        raise ValueError(f"{stage!r} cannot be the name of a stage's folder")
    values = (SCHEMA, stage, dict(inputs), settings, dict(versions))
    # Through JSON and back: the key computed from a manifest must be the one that it was built for.
    text = json.dumps(dict(zip(INGREDIENTS, values, strict=True)), allow_nan=False)
    restored: dict[str, Any] = json.loads(text)
    return restored


def artifact_key(ingredients: Mapping[str, object]) -> str:
    """Hash what can change a result: 20 hexadecimal digits of the sha256 of its canonical JSON.

    Args:
        ingredients: JSON values under ``schema``, ``stage``, ``inputs``, ``settings`` and ``versions``; what
            else is there, such as the rest of a manifest, does not matter.
    """
    chosen = {name: ingredients[name] for name in INGREDIENTS}
    canonical = json.dumps(chosen, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]


def write_manifest(folder: Path, ingredients: Mapping[str, object], seconds: float) -> None:
    """Finish an artifact: hash every file, and write down what went in and what came out.

    Raises:
        DamagedArtifactError: The folder holds a link, or something else that is not a plain file.
        ValueError: The stage wrote a file of this name itself.
    """
    files = {}
    for path in plain_files(folder):
        name = path.relative_to(folder).as_posix()
        if name == MANIFEST:
            raise ValueError(f"{ingredients['stage']} wrote {MANIFEST}, a name that belongs to the store")
        files[name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    document = {**ingredients, "key": artifact_key(ingredients), "seconds": seconds, "files": files}
    (folder / MANIFEST).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def verify(folder: Path) -> dict[str, Any]:
    """Check an artifact: its key, and every file's presence, size and sha256; nothing more may be there.

    Returns:
        Its manifest: ``schema``, ``stage``, ``key``, ``inputs``, ``settings``, ``versions``, ``seconds`` and
        ``files`` (name -> ``bytes``, ``sha256``).

    Raises:
        DamagedArtifactError: Something is missing, too much, changed, a link or outside the folder.
    """
    if folder.is_symlink():
        raise DamagedArtifactError(f"{folder} is a link, not an artifact", "delete it and build again")
    manifest = _read_manifest(folder)
    try:
        present = {path.relative_to(folder).as_posix(): path for path in plain_files(folder)}
        del present[MANIFEST]
        _check_names(folder, manifest["files"], present)
        for name, listed in manifest["files"].items():
            _check_file(present[name], listed)
    except OSError as error:
        raise DamagedArtifactError(f"{folder} cannot be read: {error}", AGAIN) from error
    return manifest


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise DamagedArtifactError(f"{folder} has no {MANIFEST}", f"it is not a finished artifact; {AGAIN}")
    try:
        manifest = read_json(path)
        if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
            raise DamagedArtifactError(f"{path} is not a manifest of schema {SCHEMA}", AGAIN)
        if set(manifest) != {*INGREDIENTS, "key", "seconds", "files"}:
            raise DamagedArtifactError(f"{path} was changed: fields are missing or too many", AGAIN)
        if manifest["key"] != artifact_key(manifest):
            raise DamagedArtifactError(f"{path} was changed: its key is not that of its contents", AGAIN)
    except (ValueError, RecursionError) as error:  # NaN, or nesting made to break a parser
        raise DamagedArtifactError(f"{path} cannot be read: {error}", AGAIN) from error
    if not isinstance(manifest["files"], dict) or not isinstance(manifest["seconds"], int | float):
        raise DamagedArtifactError(f"{path} was changed: malformed fields", AGAIN)
    return manifest


def _check_names(folder: Path, listed: Mapping[str, object], present: Mapping[str, Path]) -> None:
    for name in listed:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DamagedArtifactError(f"{folder / MANIFEST} names a file outside its folder: {name}", AGAIN)
        if name not in present:
            raise DamagedArtifactError(f"{folder / name} is missing", AGAIN)
    for name in present:
        if name not in listed:
            raise DamagedArtifactError(f"{folder / name} is not in the manifest", AGAIN)


def _check_file(path: Path, listed: object) -> None:
    if not isinstance(listed, dict) or set(listed) != {"bytes", "sha256"}:
        raise DamagedArtifactError(f"the manifest entry of {path} is malformed", AGAIN)
    size = path.stat().st_size
    if size != listed["bytes"]:
        raise DamagedArtifactError(f"{path} has {size} bytes instead of {listed['bytes']}", AGAIN)
    if _sha256(path) != listed["sha256"]:
        raise DamagedArtifactError(f"{path} was changed: its sha256 is not that of the manifest", AGAIN)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
