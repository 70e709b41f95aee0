"""Translations of the Hugging Face hub, or of a folder that is laid out like one of its datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgelr.errors import DataError
from edgelr.examples import Translation
from edgelr.load.hub_dataset import open_dataset
from edgelr.load.rows import normalized
from edgelr.progress import Progress
from edgelr.recipe.tasks import TranslationsDataset

_COLUMN = "translation"  # by custom a row is {"translation": {"en": ..., "de": ...}}


def read_dataset(
    data: TranslationsDataset, recipe_folder: Path, progress: Progress
) -> tuple[Translation, ...]:
    """Read rows in their order; those without a text in both languages are left out, with a note.

    Args:
        data: The recipe's section.
        recipe_folder: Where a local folder is looked for first.
        progress: Where to say what was left out.

    Raises:
        DataError: The dataset, its part or its split is not there or cannot be read, a language is not among
            its columns, or source and target are the same text in every row.
    """
    rows = open_dataset(data, recipe_folder)
    source, target = data.languages
    examples = []
    for number, row in enumerate(rows):
        texts = row.get(_COLUMN, row)
        if texts is None:
            continue
        _check_languages(data, texts)
        pair = [str(texts[language] or "").strip() for language in (source, target)]
        if all(pair):
            group = normalized(pair[0])
            examples.append(Translation(id=f"row-{number}", group=group, source=pair[0], target=pair[1]))
    if len(examples) < len(rows):
        progress.note(f"{len(rows) - len(examples)} of {len(rows)} rows lack a text and are left out")
    if examples and all(example.source == example.target for example in examples):
        raise DataError(
            f"{data.id}: source and target are the same text in every row ({len(examples)})",
            "is task.data.languages right?",
        )
    return tuple(examples)


def _check_languages(data: TranslationsDataset, texts: Mapping[str, Any]) -> None:
    if missing := [language for language in data.languages if language not in texts]:
        raise DataError(
            f"task.data.languages: {data.id} has no {' and no '.join(missing)}; "
            f"it has {', '.join(sorted(texts))}",
            "name two of these",
        )
