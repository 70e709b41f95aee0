"""From the events of a YAML parser to plain values with line numbers, without recursion and within limits.

Values are those of JSON: text, numbers, true, false, null, lists, mappings with text keys. What YAML offers
beyond that (tags, merge keys, aliases of whole structures) only serves to hide something, so it is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edgelr.errors import UsageError

MAX_DEPTH = 32
MAX_VALUES = 10_000
MAX_ALIASES = 16
MAX_KEY = 200

KeyPath = tuple[str | int, ...]

_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_OTHER_INTEGER = re.compile(r"0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,6})?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Line breaks and tabs are fine; other control characters and halves of surrogate pairs are no text.
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong in a file.

    Attributes:
        line: Where, counted from 1.
        key: The key path; empty for the file as a whole.
        message: What is wrong, and what would be right.
    """

    line: int
    key: KeyPath
    message: str


@dataclass(kw_only=True)
class _Open:
    """A list or mapping that is still being read; ``key`` is the one whose value comes next, and its line."""

    value: dict[str, Any] | list[Any]
    path: KeyPath
    key: str | None = None
    key_line: int = 0


class Tree:
    """What the events said so far.

    Attributes:
        root: The whole value; None while there is none.
        lines: Line of each key and list element, counted from 1.
        faults: Keys given twice.
    """

    def __init__(self, path: Path) -> None:
        self.root: Any = None
        self.lines: dict[KeyPath, int] = {}
        self.faults: list[Fault] = []
        self._path = path
        self._open: list[_Open] = []
        self._anchors: dict[str, Any] = {}
        self._values = self._aliases = self._documents = 0

    def add(self, event: Any) -> None:  # noqa: ANN401 - the YAML library is untyped
        """Take the parser's next event.

        Raises:
            UsageError: It is something that these files must not hold, or too much of it.
        """
        line = event.start_mark.line + 1
        if getattr(event, "tag", None) is not None:
            self._refuse(line, f"the tag '{event.tag}' is not allowed; plain values only")
        match type(event).__name__:
            case "DocumentStartEvent":
                self._documents += 1
                if self._documents > 1:
                    self._refuse(line, "a second document ('---'); one file holds one")
            case "ScalarEvent":
                self._add_scalar(event, line)
            case "AliasEvent":
                self._add_alias(event.anchor, line)
            case "MappingStartEvent":
                self._start({}, line)
            case "SequenceStartEvent":
                self._start([], line)
            case "MappingEndEvent" | "SequenceEndEvent":
                self._open.pop()

    def _add_scalar(self, event: Any, line: int) -> None:  # noqa: ANN401
        if _NOT_TEXT.search(event.value):
            self._refuse(line, "a control character inside a value")
        if self._wants_key():
            if len(event.value) > MAX_KEY:
                self._refuse(line, f"a key of more than {MAX_KEY} characters")
            self._open[-1].key, self._open[-1].key_line = event.value, line
            return
        value = event.value if event.style else plain_value(event.value)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        self._put(value, line)

    def _add_alias(self, name: str, line: int) -> None:
        # Only single values can be named, so nothing can grow out of an alias and nothing can hold itself.
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._refuse(line, f"more than {MAX_ALIASES} aliases; write the values out")
        if self._wants_key() or name not in self._anchors:
            self._refuse(line, f"the alias '*{name}' does not name a single value above it; write it out")
        self._put(self._anchors[name], line)

    def _start(self, value: dict[str, Any] | list[Any], line: int) -> None:
        if self._wants_key():
            self._refuse(line, "a list or mapping as a key; does a text with brackets need quotes?")
        if len(self._open) == MAX_DEPTH:
            self._refuse(line, f"nested deeper than {MAX_DEPTH} levels")
        self._open.append(_Open(value=value, path=self._put(value, line)))

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _put(self, value: Any, line: int) -> KeyPath:  # noqa: ANN401 - any YAML value
        self._values += 1
        if self._values > MAX_VALUES:
            self._refuse(line, f"more than {MAX_VALUES} values")
        if not self._open:
            self.root = value
            self.lines[()] = line
            return ()
        around = self._open[-1]
        if isinstance(around.value, list):
            around.value.append(value)
            path: KeyPath = (*around.path, len(around.value) - 1)
            self.lines.setdefault(path, line)
            return path
        assert around.key is not None
        path = (*around.path, around.key)
        if around.key in around.value:
            message = f"given twice; the first is in line {self.lines[path]}"
            self.faults.append(Fault(line=around.key_line, key=path, message=message))
        else:
            around.value[around.key] = value
            self.lines.setdefault(path, around.key_line)
        around.key = None
        return path

    def _refuse(self, line: int, found: str) -> NoReturn:
        raise UsageError(f"{self._path}:{line}: {found}")


def plain_value(text: str) -> str | int | float | bool | None:
    """Read a value without quotes by the core schema of YAML 1.2.

    Dates, ``yes``, ``1_000`` and ``12:30`` stay text: only what looks like JSON becomes something else.

    Source: YAML 1.2.2, section 10.3.2.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OTHER_INTEGER.fullmatch(text):
        return int(text, 0)
    if _NUMBER.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text
