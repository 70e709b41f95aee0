"""Utterances of the Hugging Face hub, or of a folder that is laid out like one of its datasets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgelr.errors import DataError
from edgelr.examples import Utterance
from edgelr.load.hub_dataset import open_dataset
from edgelr.load.rows import normalized
from edgelr.progress import Progress
from edgelr.recipe.tasks import UtterancesDataset

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")


def read_utterances_dataset(
    data: UtterancesDataset, recipe_folder: Path, scratch: Path, progress: Progress
) -> tuple[Utterance, ...]:
    """Read rows in their order; those without a sound or a text are left out, with a note.

    Sounds stay as they are encoded: ``datasets`` itself would need torchcodec and FFmpeg to decode them.

    Args:
        data: The recipe's section.
        recipe_folder: Where a local folder is looked for first.
        scratch: Where sounds that are no files are written.
        progress: Where to say what was left out.

    Returns:
        Utterances; ``audio`` is an absolute path. Without a column for groups, rows with the same text, but
        for case and spaces, are a group: a sentence of the test must not be one that was trained on.

    Raises:
        DataError: The dataset, its part or its split is not there or cannot be read, or it has no such
            columns.
    """
    rows = _with_sounds(data, open_dataset(data, recipe_folder))
    examples = []
    for number, row in enumerate(rows):
        text = str(row[data.text] or "").strip()
        sound = _file(row[data.audio] or {}, scratch / f"row-{number}") if text else None
        if sound is not None:
            group = normalized(text) if data.group is None else str(row[data.group])
            examples.append(Utterance(id=f"row-{number}", group=group, audio=str(sound), text=text))
    if len(examples) < len(rows):
        left_out = len(rows) - len(examples)
        progress.note(f"{left_out} of {len(rows)} rows lack a sound or a text and are left out")
    return tuple(examples)


def _with_sounds(data: UtterancesDataset, rows: Any) -> Any:  # noqa: ANN401 - a datasets.Dataset
    """The rows, whose sounds are bytes or paths."""
    from datasets import Audio, Value

    wanted = {"audio": data.audio, "text": data.text, "group": data.group}
    for key, column in wanted.items():
        if column is not None and column not in rows.column_names:
            raise DataError(
                f"task.data.{key}: {data.id} has no column {column!r}; it has {_listed(rows.column_names)}",
                "name one of these",
            )
    kinds = rows.features
    if isinstance(kinds[data.audio], Value) or not isinstance(kinds[data.text], Value):
        raise DataError(
            f"task.data: {data.id} has {kinds[data.audio]} in {data.audio!r}, which should be sounds, and "
            f"{kinds[data.text]} in {data.text!r}, which should be texts",
            "name other columns; paths of sounds belong into a .jsonl or .tsv file, with source: file",
        )
    columns = [column for column in wanted.values() if column is not None]
    return rows.select_columns(columns).cast_column(data.audio, Audio(decode=False))


def _file(sound: dict[str, Any], place: Path) -> Path | None:
    """Where a row's sound is; what has no file of its own is written."""
    content, path = sound.get("bytes"), sound.get("path") or ""
    if content is None:
        return Path(path).absolute() if path else None
    suffix = Path(path).suffix
    target = place.with_suffix(suffix) if _SUFFIX.fullmatch(suffix) else place
    target.write_bytes(content)
    return target


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names))
