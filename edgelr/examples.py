"""One example of a task, of its shape, and the JSON lines that examples are kept in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from edgelr.errors import DamagedArtifactError

_AGAIN = "get or build it again"
_OPTIONAL = {"query"}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A passage, and maybe a question that it answers.

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

    @property
    def scored(self) -> bool:
        """Whether it can be held against a reference: splits for testing take only such examples."""
        return self.query is not None


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A text and what it is in another language.

    Attributes:
        id: Stable name, unique in its data set.
        group: What must not be shared between splits, such as the value that both texts say.
        source: The text to be translated.
        target: The reference.
    """

    id: str
    group: str
    source: str
    target: str

    @property
    def scored(self) -> bool:
        """Whether it can be held against a reference: always."""
        return True


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """Speech and what is said in it.

    Attributes:
        id: Stable name, unique in its data set.
        group: What must not be shared between splits, such as the speaker or the sentence.
        audio: File of the sound, relative to the folder of the file that lists the examples.
        text: The reference transcript.
    """

    id: str
    group: str
    audio: str
    text: str

    @property
    def scored(self) -> bool:
        """Whether it can be held against a reference: always."""
        return True


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text to be read.

    Attributes:
        id: Stable name, unique in its data set.
        group: What must not be shared between splits, such as the document.
        text: The text.
    """

    id: str
    group: str
    text: str

    @property
    def scored(self) -> bool:
        """Whether it can be held against a reference: always, being one itself."""
        return True


AnyExample = Example | Translation | Utterance | Passage
Row = TypeVar("Row", bound=AnyExample)


def spread(examples: Sequence[Row], count: int) -> tuple[Row, ...]:
    """A few examples for many, evenly over their order.

    Splits are ordered by name, and names begin with what an example is about: the first few of a split are
    of one kind.

    Args:
        examples: In the order of their split.
        count: How many; all, where there are fewer.
    """
    taken = min(count, len(examples))
    return tuple(examples[number * len(examples) // taken] for number in range(taken))


def write_examples(path: Path, examples: Sequence[AnyExample]) -> None:
    """Write examples as JSON lines, keys in a fixed order, absent queries left out.

    Args:
        path: The file; its folder is made when it does not exist.
        examples: In the order of the lines.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for example in examples:
        row = {key: value for key, value in asdict(example).items() if value is not None}
        lines.append(json.dumps(row, ensure_ascii=False, sort_keys=True))
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def read_examples(path: Path, kind: type[Row]) -> tuple[Row, ...]:
    """Read examples from JSON lines.

    Args:
        path: The file.
        kind: Their class.

    Raises:
        DamagedArtifactError: The file cannot be read, or a line is not an example; file and line are named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedArtifactError(f"{path} cannot be read: {error}", _AGAIN) from error
    lines = text.removesuffix("\n").split("\n") if text else []
    return tuple(_example(line, kind, f"{path}:{number}") for number, line in enumerate(lines, start=1))


def _example(line: str, kind: type[Row], where: str) -> Row:
    try:
        example = kind(**json.loads(line))
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedArtifactError(f"{where}: not an example: {error}", _AGAIN) from error
    for name, value in vars(example).items():
        if not (isinstance(value, str) or (name in _OPTIONAL and value is None)):
            raise DamagedArtifactError(f"{where}: not an example: '{name}' is not text", _AGAIN)
    return example
