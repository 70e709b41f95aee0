"""One example of a task, of its shape, and the JSON lines that examples are kept in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgelr.errors import DamagedArtifactError

_AGAIN = "get or build it again"
_OPTIONAL = {"query"}
_ROWS = {"seen", "liked", "disliked"}  # numbers of items


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
class Call:
    """One call of a graph: named arrays, kept in a file beside the list of examples.

    Attributes:
        id: Stable name, unique in its data set.
        group: What must not be shared between splits.
        file: The ``.npz`` file of its arrays, relative to the folder of the file that lists the examples.
        entry: What the names of its arrays begin with in there; the array ``x`` of the entry ``12`` is
            ``12/x``.
    """

    id: str
    group: str
    file: str
    entry: str

    @property
    def scored(self) -> bool:
        """Whether it can be held against a reference: always, the dense model's outputs."""
        return True


@dataclass(frozen=True, kw_only=True)
class History:
    """What a user did in a part of time, and before it: rows of the model's item table.

    Attributes:
        id: The user, as the model's ``users.txt`` calls them.
        group: Likewise.
        seen: Items of the time before; they are not recommended again.
        liked: Items that the user then met and liked.
        disliked: Those that they met and did not like.
    """

    id: str
    group: str
    seen: tuple[int, ...]
    liked: tuple[int, ...]
    disliked: tuple[int, ...]

    @property
    def scored(self) -> bool:
        """Whether it can be held against a reference: when anything was met."""
        return bool(self.liked or self.disliked)


@dataclass(frozen=True, kw_only=True)
class Labeled:
    """A text and what it is about.

    Attributes:
        id: Stable name, unique in its data set.
        group: What must not be shared between splits.
        text: To be classified.
        label: The right one, by the model's name for it, or by its number.
    """

    id: str
    group: str
    text: str
    label: str

    @property
    def scored(self) -> bool:
        """Whether it can be held against a reference: always."""
        return True


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """A text and the tag of each of its words.

    Attributes:
        id: Stable name, unique in its data set.
        group: What must not be shared between splits.
        text: Words with a space between them.
        tags: As many, likewise: ``B-PER O O``.
    """

    id: str
    group: str
    text: str
    tags: str

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


AnyExample = Example | Translation | Utterance | Call | History | Labeled | Tagged | Passage
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
        kind: That of the task's examples.

    Raises:
        DamagedArtifactError: The file cannot be read, or a line is not an example; file and line are named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedArtifactError(f"{path} cannot be read: {error}", _AGAIN) from error
    lines = text.removesuffix("\n").split("\n") if text else []
    return tuple(_example(line, kind, f"{path}:{number}") for number, line in enumerate(lines, start=1))


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if name in _ROWS else value for name, value in row.items()}


def _example(line: str, kind: type[Row], where: str) -> Row:
    try:
        example = kind(**_fields(json.loads(line)))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedArtifactError(f"{where}: not an example: {error}", _AGAIN) from error
    for name, value in vars(example).items():
        if name in _ROWS and not all(type(row) is int and row >= 0 for row in value):
            raise DamagedArtifactError(f"{where}: not an example: '{name}' is no list of rows", _AGAIN)
        if name not in _ROWS and not (isinstance(value, str) or (name in _OPTIONAL and value is None)):
            raise DamagedArtifactError(f"{where}: not an example: '{name}' is not text", _AGAIN)
    return example
