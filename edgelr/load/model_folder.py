"""Find the dense model, a folder or an ONNX file, and check that it is one, without loading it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path

from edgelr.errors import (
    DamagedArtifactError,
    MissingRequirementError,
    UnsupportedModelError,
    UsageError,
)
from edgelr.recipe.schema import Model
from edgelr.runtime.external_data import external_locations

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_POSITION_S = 0.02  # of Whisper's encoder
_CODE = ".py"
_POINTER = b"version https://git-lfs"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# What decides the model's outputs. Model cards and other frameworks' weights do not.
_CONTENT = ("*.json", "*.txt", "*.model", "*/config.json", *_WEIGHTS)


def find_model(model: Model, recipe_folder: Path) -> Path:
    """Resolve ``model`` to a local Hugging Face folder: in a package, next to the recipe, or from the hub.

    What ends with ``.onnx`` is a file, in a package or next to the recipe.

    Args:
        model: The recipe's section.
        recipe_folder: What a path is relative to.

    Raises:
        UsageError: There is no such folder, and it is not a reachable hub model.
        MissingRequirementError: The package that carries it is not installed.
        UnsupportedModelError: The folder holds no configuration, no weights, or only pointers to them.
    """
    assert model.path is not None, "a model that is yet to be trained is nowhere"
    if model.package is not None:
        folder = _package_folder(model.package) / model.path
    else:
        folder = (recipe_folder / model.path).resolve()
        if not folder.exists() and not model.is_graph and not str(model.path).endswith(_CODE):
            folder = _hub_folder(model.path, model.revision, folder)
    if model.is_graph:
        _check_graph(folder)
        return folder
    if model.path.endswith(_CODE):
        return _own_file(folder)
    if not folder.is_dir():
        raise UsageError(
            f"model.path: {folder} is not a folder", "give a folder that holds config.json and weights"
        )
    if not (folder / "config.json").is_file():
        raise UnsupportedModelError(f"{folder} has no config.json", "a Hugging Face model folder is needed")
    _check_weights(folder)
    return folder


def _check_graph(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"model.path: there is no file {path}", "paths are relative to the recipe's folder")
    for file in _graph_files(path):
        if not file.is_file():
            raise UnsupportedModelError(f"{path} has weights in {file}, which is missing", "copy it there")


def _graph_files(path: Path) -> list[Path]:
    """An ONNX file, and the files beside it that its weights are in."""
    try:
        locations = {location for _, location in external_locations(path)}
    except DamagedArtifactError as error:
        raise UnsupportedModelError(f"{path} is no ONNX model: {error.found}", "give an ONNX file") from error
    return [path, *(path.parent / location for location in sorted(locations))]


def _own_file(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"task.module: {path} does not exist", "paths are relative to the recipe's folder")
    return path


def _check_weights(folder: Path) -> None:
    files = sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern) if path.is_file())
    if not files:
        raise UnsupportedModelError(
            f"{folder} has no weights (looked for {' and '.join(_WEIGHTS)})", "copy the weights there"
        )
    for path in files:
        with path.open("rb") as stream:
            if stream.read(len(_POINTER)) == _POINTER:
                raise UnsupportedModelError(
                    f"{path} is a Git LFS pointer, not the weights", f"run 'git lfs pull' in {folder}"
                )


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise MissingRequirementError(
            f"model.package: the Python package '{package}' is not installed",
            f"pip install --no-deps {package.replace('_', '-')}",
        )
    return Path(spec.submodule_search_locations[0])


def _hub_folder(path: str, revision: str | None, local: Path) -> Path:
    if not _HUB_ID.fullmatch(path):
        raise UsageError(f"model.path: {local} does not exist", "paths are relative to the recipe's folder")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # of its HTTP client
    except ImportError as error:
        raise MissingRequirementError(
            "huggingface_hub is not installed", "pip install 'edgelr[build]'"
        ) from error
    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=[*_CONTENT, "*.md"]))
    except (HTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"model.path: '{path}' is neither a folder ({local}) nor a hub model "
            f"that can be reached: {reason}",
            "check the spelling and the network, or download it once and give the folder",
        ) from error


def fingerprint(folder: Path) -> str:
    """sha256 over every file of ``folder`` that decides the model's outputs, names included.

    Args:
        folder: The dense model; of an ONNX file, that and its weights count; of a module of the user's own,
            its file.
    """
    if folder.suffix == _CODE:
        return folder_digest(folder.parent, [folder.name])
    if folder.is_file():
        names = [file.relative_to(folder.parent).as_posix() for file in _graph_files(folder)]
        return folder_digest(folder.parent, names)
    return folder_digest(folder, _CONTENT)


def folder_digest(folder: Path, patterns: Sequence[str] = ("**/*",)) -> str:
    """sha256 over every file of ``folder`` that a glob finds, names included."""
    digest = hashlib.sha256()
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    for path in files:
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def card_license(folder: Path) -> str | None:
    """The ``license:`` line of the model card's front matter, when it has one."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    before, *front = card.read_text(encoding="utf-8-sig", errors="replace").split("---", 2)
    if before.strip() or len(front) != 2:
        return None
    found = re.search(r"^license:[ \t]*[\"']?([^\s\"']+)", front[0], re.MULTILINE)
    return found.group(1) if found else None


def window_s(folder: Path) -> float | None:
    """How many seconds of sound a Whisper reads at once, as its configuration says; None of other models.

    Args:
        folder: The model's.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # whoever loads the model says what is wrong
    if not isinstance(config, dict) or config.get("model_type") != "whisper":
        return None
    positions = config.get("max_source_positions")
    return positions * _POSITION_S if isinstance(positions, int) else None


def label_names(folder: Path) -> tuple[str, ...]:
    """Names of the labels of a classifier, in the order of its scores, as its configuration says.

    Args:
        folder: The model's.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None  # whoever loads the model says what is wrong
    names = config.get("id2label") if isinstance(config, dict) else None
    if not isinstance(names, dict) or not all(key.isdecimal() for key in names):
        return ("LABEL_0", "LABEL_1")  # what transformers takes for granted, and leaves out
    return tuple(str(names[key]) for key in sorted(names, key=int))
