"""Read a YAML file from anyone: plain values, each with its line, or a message that says what stopped it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelr.errors import UsageError
from edgelr.recipe.yaml_tree import Fault, KeyPath, Tree

MAX_BYTES = 2**20
SUFFIXES = (".yaml", ".yml")

_SYMBOL = re.compile(r"[A-Za-z_][\w-]*")
_KEY_PART = re.compile(r"\.?([A-Za-z_][\w-]*)|\[(\d+)\]|\['([^']*)'\]")


@dataclass(frozen=True, kw_only=True)
class YamlFile:
    """What a YAML file says, and where.

    Attributes:
        path: The file, as the user named it.
        value: Its mapping, in plain values.
        lines: Line of each key and list element, counted from 1.
        faults: What was refused on the way: keys given twice.
    """

    path: Path
    value: dict[str, Any]
    lines: dict[KeyPath, int]
    faults: tuple[Fault, ...]

    def line(self, key: KeyPath) -> int:
        """Line of ``key``, or of the nearest section around it when the file does not have it."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def at(self, key: KeyPath) -> Any:  # noqa: ANN401 - any YAML value
        """What the file says at ``key``; None where it says nothing."""
        value: Any = self.value
        for part in key:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def fault(self, key: KeyPath, message: str) -> Fault:
        """A fault at ``key``, with its line."""
        return Fault(line=self.line(key), key=key, message=message)


def read_yaml(path: Path, *, what: str) -> YamlFile:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: The file.
        what: What it should be, for messages: ``recipe`` or ``device profile``.

    Raises:
        UsageError: There is no such file, it is not text, too large or too deep, or not valid YAML.
    """
    text = _read_text(path, what)
    tree = Tree(path)
    for event in _events(path, text):
        tree.add(event)
    if tree.root is None:
        raise UsageError(f"{path} is empty", f"a {what} is a mapping of keys to values")
    if not isinstance(tree.root, dict):
        where = f"{path}:{tree.lines[()]}"
        raise UsageError(f"{where}: expected a mapping (lines of 'key: value'), found {describe(tree.root)}")
    return YamlFile(path=path, value=tree.root, lines=tree.lines, faults=tuple(tree.faults))


def describe(value: object) -> str:
    """Say what a value is, for messages: ``'ten' (text)``, ``1.5 (number)``, ``a list``."""
    match value:
        case bool():
            text = f"{str(value).lower()} (true or false)"
        case int():
            text = f"{value} (whole number)"
        case float():
            text = f"{value:g} (number)"
        case str():
            text = f"{value if len(value) <= 60 else value[:57] + '...'!r} (text)"
        case list():
            text = "a list"
        case dict():
            text = "a mapping"
        case _:
            text = "nothing"
    return text


def show_key(key: KeyPath) -> str:
    """Write a key path for people: ``validate.gates[1].max``."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _SYMBOL.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"['{part}']"
    return text


def read_key(text: str) -> KeyPath:
    """Read what ``show_key`` wrote.

    Raises:
        ValueError: It is not a key path.
    """
    parts: list[str | int] = []
    end = 0
    while end < len(text):
        found = _KEY_PART.match(text, end)
        if found is None:
            raise ValueError(f"not a key path: {text!r}")
        symbol, index, quoted = found.groups()
        parts.append(symbol or (quoted if index is None else int(index)))
        end = found.end()
    return tuple(parts)


def yaml_names(folder: Path) -> list[str]:
    """Names of the YAML files in a folder, sorted; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.suffix in SUFFIXES)


# --- the file --------------------------------------------------------------------------------------


def _read_text(path: Path, what: str) -> str:
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder, not a {what}", _files_in(path))
        if not path.exists():
            raise UsageError(f"{path} does not exist", _neighbor(path))
        if not path.is_file():
            raise UsageError(f"{path} is not a regular file")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path} is larger than 1 MiB", f"is it a {what}?")
    if b"\0" in data:
        raise UsageError(f"{path} is a binary file, not a {what}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: not UTF-8 text", f"save it as UTF-8, if it is a {what}") from error


def _files_in(folder: Path) -> str:
    names = yaml_names(folder)
    return f"it holds {', '.join(names[:8])}" if names else "give a .yaml file"


def _neighbor(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"nor does the folder {path.parent}"
    close = difflib.get_close_matches(path.name, yaml_names(path.parent), n=1, cutoff=0.5)
    return f"did you mean {path.with_name(close[0])}?" if close else None


def _events(path: Path, text: str) -> Iterator[Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        raise UsageError(_syntax(path, error)) from error
    except (YAMLError, ValueError, OverflowError) as error:  # bad characters, and escapes that name none
        reason = str(error).splitlines()[0]
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
        raise UsageError(f"{path}:{line}: not valid YAML: {reason}") from error


def _syntax(path: Path, error: Any) -> str:  # noqa: ANN401 - the YAML library is untyped
    mark = error.problem_mark or error.context_mark
    context = error.context or ""
    if context and error.context_mark is not None and error.context_mark.line != mark.line:
        context += f" that starts in line {error.context_mark.line + 1}"
    text = f"{path}:{mark.line + 1}:{mark.column + 1}: not valid YAML: {error.problem}"
    if context:
        text += f", {context}"
    return text + ("; indent with spaces" if "\\t" in text else "")
