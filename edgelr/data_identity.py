"""What tells one recipe's data, and how it is scored, from another's: stages are kept under it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgelr.errors import DataError
from edgelr.load.model_folder import folder_digest
from edgelr.load.sounds import manifest_digest
from edgelr.recipe.load import data_path
from edgelr.recipe.tasks import (
    CldrPairs,
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


def data_digest(task: TaskSettings, recipe_path: Path) -> dict[str, str]:
    """Hash of the user's own data, when there is any.

    Args:
        task: The recipe's section.
        recipe_path: What its paths are relative to the folder of.

    Raises:
        DataError: The data cannot be read.
    """
    data = task.data
    if isinstance(data, TranslationsDataset | UtterancesDataset):
        folder = recipe_path.parent / data.id
        return {"data": folder_digest(folder)} if folder.is_dir() else {}
    if not isinstance(data, PairsFile | TranslationsFile | UtterancesFile | TextsFile):
        return {}
    path = data_path(recipe_path, data.path)
    try:
        if isinstance(data, UtterancesFile):
            return {"data": manifest_digest(path)}
        return {"data": hashlib.sha256(path.read_bytes()).hexdigest()}
    except OSError as error:
        raise DataError(
            f"task.data.path: {path} cannot be read: {error.strerror}",
            "paths are relative to the recipe's folder",
        ) from error


def data_libraries(task: TaskSettings) -> tuple[str, ...]:
    """Packages whose content is the data."""
    match task.data:
        case PythonDocs(packages=packages):
            return tuple(name for name in packages if name != "stdlib")
        case CldrPairs():
            return ("babel",)
        case SpokenPhrases():
            return ("espeakng-loader", "numpy", "soxr")
        case _:
            return ()


def scoring_libraries(task: TaskSettings) -> tuple[str, ...]:
    """Packages that decide what a score is, besides those that run a package."""
    match task:
        case Translate():
            return ("sacrebleu", "sentencepiece")
        case Recognize():
            return ("jiwer", "soundfile", "soxr")
        case _:
            return ()
