"""What tells one recipe's data, and how it is scored, from another's: stages are kept under it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from edgelr.errors import DataError
from edgelr.load.model_folder import folder_digest
from edgelr.load.sounds import manifest_digest
from edgelr.own_code import defines
from edgelr.recipe.classify import DocstringModules, ImagesFile, LabeledFile, TaggedFile
from edgelr.recipe.custom import Custom, OwnRows
from edgelr.recipe.load import data_path
from edgelr.recipe.recommend import InteractionsFile, MovieLens
from edgelr.recipe.tasks import (
    ArraysFile,
    CldrPairs,
    OnnxGraph,
    PairsFile,
    PythonDocs,
    Recognize,
    SpokenPhrases,
    TaskSettings,
    TextsFile,
    Translate,
    TranslationsDataset,
    TranslationsFile,
    UtterancesDataset,
    UtterancesFile,
)

_FILES = (
    *(ArraysFile, PairsFile, TranslationsFile, UtterancesFile, LabeledFile, TaggedFile, ImagesFile),
    *(InteractionsFile, TextsFile),
)


def data_digest(task: TaskSettings, recipe_path: Path) -> dict[str, str]:
    """Hash of the user's own data, when there is any.

    Args:
        task: The recipe's section.
        recipe_path: What its paths are relative to the folder of.

    Raises:
        DataError: The data cannot be read.
    """
    data = task.data
    if isinstance(task, Custom):  # whose file is model, data and judge
        found = {"module": _digest(data_path(recipe_path, task.file), "task.module", _sha256)}
        weights = data_path(recipe_path, task.weights or "")
        return {**found, "weights": _sha256(weights)} if weights.is_file() else found
    if isinstance(data, TranslationsDataset | UtterancesDataset):
        folder = recipe_path.parent / data.id
        return {"data": folder_digest(folder)} if folder.is_dir() else {}
    if not isinstance(data, _FILES):
        return {}
    file = data.path.partition(":")[0] if isinstance(data, ArraysFile) else data.path
    digest = manifest_digest if isinstance(data, UtterancesFile) else _sha256
    found = {"data": _digest(data_path(recipe_path, file), "task.data.path", digest)}
    for name in ("titles", "users") if isinstance(data, InteractionsFile) else ():
        if (table := getattr(data, name)) is not None:
            found[name] = _digest(data_path(recipe_path, table), f"task.data.{name}", _sha256)
    if (metric := own_metric(task, recipe_path)) is not None:
        found["metric"] = _digest(Path(metric.rpartition(":")[0]), "task.metric", _sha256)
    return found


def _digest(path: Path, key: str, digest: Callable[[Path], str]) -> str:
    try:
        return digest(path)
    except OSError as error:
        raise DataError(
            f"{key}: {path} cannot be read: {error.strerror}",
            "paths are relative to the recipe's folder",
        ) from error


def own_metric(task: TaskSettings, recipe_path: Path) -> str | None:
    """``FILE.py:FUNCTION`` that a recipe's outputs are judged by besides the task's own metrics; or None.

    Args:
        task: The recipe's section.
        recipe_path: What its paths are relative to the folder of.

    Raises:
        UnsupportedModelError: The file has a fault.
    """
    if isinstance(task, Custom):
        own = data_path(recipe_path, task.file)
        return f"{own}:metric" if defines(own, "metric") else None
    if not isinstance(task, OnnxGraph) or task.metric is None:
        return None
    file, _, function = task.metric.rpartition(":")
    return f"{data_path(recipe_path, file)}:{function}"


def data_libraries(task: TaskSettings) -> tuple[str, ...]:  # noqa: PLR0911 - one a source of data
    """Packages whose content is the data."""
    match task.data:
        case PythonDocs(packages=packages) | DocstringModules(packages=packages):
            return tuple(name for name in packages if name != "stdlib")
        case CldrPairs():
            return ("babel",)
        case MovieLens():
            return ("recbole",)
        case SpokenPhrases():
            return ("espeakng-loader", "numpy", "soxr")
        case UtterancesFile() | UtterancesDataset():
            return ("soundfile", "soxr")
        case OwnRows():  # its module may be trained while it is loaded
            return ("numpy", "torch")
        case _:
            return ()


def model_libraries(task: TaskSettings) -> tuple[str, ...]:
    """Packages that run the dense model and its factors, and make its input."""
    return ("onnx", "onnxruntime") if isinstance(task, OnnxGraph) else ("tokenizers", "torch", "transformers")


def scoring_libraries(task: TaskSettings) -> tuple[str, ...]:
    """Packages that decide what a score is, besides those that run a package."""
    match task:
        case Translate():
            return ("sacrebleu", "sentencepiece")
        case Recognize():
            return ("jiwer", "soundfile", "soxr")
        case _:
            return ()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
