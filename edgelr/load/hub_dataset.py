"""Datasets of the Hugging Face hub, and folders that are laid out like one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgelr.errors import DataError
from edgelr.recipe.tasks import TranslationsDataset, UtterancesDataset


def open_dataset(data: TranslationsDataset | UtterancesDataset, recipe_folder: Path) -> Any:  # noqa: ANN401
    """Open the rows that a recipe asks for, as a ``datasets.Dataset``.

    Args:
        data: The recipe's section.
        recipe_folder: Where a local folder is looked for first.

    Raises:
        DataError: The dataset, its part or its split is not there or cannot be read.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    local = recipe_folder / data.id
    try:
        rows = load_dataset(
            str(local) if local.is_dir() else data.id,
            data.config,
            split=data.split,
            revision=None if local.is_dir() else data.revision,
        )
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"task.data: the dataset {data.id!r} cannot be read: {reason}",
            _hint(error),
        ) from error
    return rows.select(range(min(data.rows, len(rows))))


def _hint(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, ImportError):  # of torchcodec, where sounds are loose files
            return (
                f"{str(error).rstrip('.')}; or give a dataset of parquet; or list sound files in a .jsonl or "
                ".tsv file, with source: file"
            )
        error = error.__cause__
    return "check id, config and split; without the network, give a folder next to the recipe"
