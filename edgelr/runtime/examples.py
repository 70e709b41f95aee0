"""The examples that travel in a package: its accuracy test, and the texts it can be searched for."""

from __future__ import annotations

from pathlib import Path

from edgelr.errors import DamagedArtifactError
from edgelr.examples import Example, read_examples

EXAMPLES = "examples.jsonl"
AGAIN = "get or build the package again"


def folder_examples(folder: Path) -> tuple[Example, ...]:
    """The examples of a package, at least one, checked to be texts.

    Args:
        folder: Holds ``examples.jsonl``.

    Raises:
        DamagedArtifactError: The file is missing, empty or malformed.
    """
    path = folder / EXAMPLES
    try:
        examples = read_examples(path, Example)
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedArtifactError(f"{path} cannot be read: {error}", AGAIN) from error
    if not examples:
        raise DamagedArtifactError(f"{path} has no examples", AGAIN)
    for number, example in enumerate(examples, start=1):
        texts = (example.id, example.group, example.passage, "" if example.query is None else example.query)
        if not all(isinstance(text, str) for text in texts):
            raise DamagedArtifactError(f"{path}:{number}: not an example: a field is not text", AGAIN)
    return examples
