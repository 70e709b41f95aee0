"""A user's own utterances, from a JSONL or TSV file that lists sound files and their texts."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from edgelr.errors import DataError
from edgelr.examples import Utterance
from edgelr.load.rows import FileRow, distinct, normalized, read_rows

_COLUMNS = ("audio", "text", "group", "id")


def read_utterances(path: Path) -> tuple[Utterance, ...]:
    """Read ``{"audio", "text", "group"?, "id"?}`` rows, or tab-separated columns in that order.

    Rows without a group are split one by one, except that rows with the same text, but for case and spaces,
    stay together: a sentence of the test must not be one that was trained on.

    Args:
        path: A ``.jsonl`` or ``.tsv`` file in UTF-8; paths of sounds are relative to its folder, and in it.

    Returns:
        Utterances in the file's order; ``audio`` is an absolute path.

    Raises:
        DataError: The file is missing, empty, a line is malformed, or its sound is missing or outside of the
            folder; file and line are named.
    """
    folder = path.parent.absolute()
    return distinct((row, _example(row, folder)) for row in read_rows(path, _COLUMNS))


def _example(row: FileRow, folder: Path) -> Utterance:
    text = row.required("text").strip()
    return Utterance(
        id=row.id, group=row.texts.get("group") or normalized(text), audio=str(_sound(row, folder)), text=text
    )


def _sound(row: FileRow, folder: Path) -> Path:
    name = row.required("audio").strip()
    windows = PureWindowsPath(name)  # its rules too: a manifest must mean the same everywhere
    if PurePosixPath(name).is_absolute() or windows.anchor or ".." in windows.parts:
        raise _outside(row, name)
    try:
        real = (folder / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:  # not there; no name at all; a link to itself
        raise _missing(row, name, folder) from error
    if not real.is_relative_to(folder.resolve()):
        raise _outside(row, name)
    if not real.is_file():
        raise _missing(row, name, folder)
    return folder / name


def _missing(row: FileRow, name: str, folder: Path) -> DataError:
    return DataError(
        f"{row.where}: there is no file '{name}' in {folder}",
        "paths of sounds are relative to the folder of the file that lists them",
    )


def _outside(row: FileRow, name: str) -> DataError:
    return DataError(
        f"{row.where}: '{name}' is outside of the folder of this file",
        "put the sounds beside it or below; no absolute path, no '..', no link that leads out",
    )
