"""The examples that travel in a package: its accuracy test, and the texts it can be searched for."""

from __future__ import annotations

from pathlib import Path

from edgelr.errors import DamagedArtifactError
from edgelr.examples import Row, read_examples

EXAMPLES = "examples.jsonl"
AGAIN = "get or build the package again"


def folder_examples(folder: Path, kind: type[Row]) -> tuple[Row, ...]:
    """The examples of a package, at least one, checked to be texts.

    Args:
        folder: Holds ``examples.jsonl``.
        kind: That of the task's examples.

    Raises:
        DamagedArtifactError: The file is missing, empty or malformed.
    """
    path = folder / EXAMPLES
    try:
        examples = read_examples(path, kind)
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedArtifactError(f"{path} cannot be read: {error}", AGAIN) from error
    if not examples:
        raise DamagedArtifactError(f"{path} has no examples", AGAIN)
    return examples
