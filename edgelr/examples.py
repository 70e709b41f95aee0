"""One example of a text task, and the JSON lines that examples are kept in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from edgelr.errors import DamagedArtifactError


@dataclass(frozen=True, kw_only=True)
class Example:
    """One example of a text task.

    Attributes:
        id: Stable name, unique in its data set, such as ``shutil.copy``.
        group: What must not be shared between splits, such as the module ``shutil``.
        query: A short text that should find ``passage``; None for a passage without a question.
        passage: The text to be embedded or found.
    """

    id: str
    group: str
    passage: str
    query: str | None = None


def write_examples(path: Path, examples: tuple[Example, ...]) -> None:
    """Write examples as JSON lines, keys in a fixed order, absent queries left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for example in examples:
        row = {key: value for key, value in asdict(example).items() if value is not None}
        lines.append(json.dumps(row, ensure_ascii=False, sort_keys=True))
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def read_examples(path: Path) -> tuple[Example, ...]:
    """Read examples from JSON lines.

    Raises:
        DamagedArtifactError: A line is not an example; file and line are named.
    """
    examples = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                examples.append(Example(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise DamagedArtifactError(f"{path}:{number}: not an example: {error}") from error
    return tuple(examples)
