"""Faults of a file in plain words: every one at once, each with its line, its key path and a near miss."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgelr.errors import UsageError
from edgelr.recipe.places import Place, choices_of, fields_of, find_place, members_of
from edgelr.recipe.yaml_file import YamlFile, describe, show_key
from edgelr.recipe.yaml_tree import Fault, KeyPath

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound="BaseModel")

MAX_SHOWN = 100

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping (lines of 'key: value')",
    "model_type": "a mapping (lines of 'key: value')",
}
_LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def usage_error(path: Path, faults: Iterable[Fault]) -> UsageError:
    """One error that lists every fault, by line: ``recipes/a.yaml:14: compress.keep: ...``."""
    rows = [_row(path, fault) for fault in sorted(faults, key=lambda fault: fault.line)]
    if len(rows) > MAX_SHOWN:
        rows = [*rows[:MAX_SHOWN], f"{path}: and {len(rows) - MAX_SHOWN} more faults"]
    return UsageError("\n".join(rows))


def did_you_mean(word: object, choices: Collection[str]) -> str:
    """``; did you mean 'x'?`` for the choice nearest to ``word``; empty when none is near."""
    near = near_miss(word, choices)
    return "" if near is None else f"; did you mean '{near}'?"


def near_miss(word: object, choices: Collection[str]) -> str | None:
    """The choice that ``word`` is most likely a misspelling of, or None."""
    if not isinstance(word, str):
        return None
    close = difflib.get_close_matches(word.lower(), choices, n=1, cutoff=0.6)
    if close:
        return close[0]
    return next((each for each in choices if len(word) >= 3 and each.startswith(word.lower())), None)


def check_schema(kind: type[M], file: YamlFile) -> tuple[M | None, tuple[Fault, ...]]:
    """Validate a file's value against its schema.

    Args:
        kind: The schema.
        file: What was read.

    Returns:
        The typed value, or None when it has faults; and the faults, those of the reading included.
    """
    import json

    from pydantic import ValidationError

    try:
        value = kind.model_validate_json(json.dumps(file.value), by_alias=True, by_name=False)
    except ValidationError as error:
        details = error.errors(include_url=False)
        places = [find_place(kind, detail["loc"]) for detail in details]
        found = list(zip(details, places, strict=True))
        meant = {_meant_key(place) for detail, place in found if detail["type"] == "extra_forbidden"}
        faults = [
            file.fault(*_words(detail, place, file))
            for detail, place in found
            if not _is_echo(detail, place, file, meant)
        ]
        return None, (*file.faults, *faults)
    return (None if file.faults else value), file.faults


def _row(path: Path, fault: Fault) -> str:
    key = show_key(fault.key)
    return f"{path}:{fault.line}: {key}: {fault.message}" if key else f"{path}:{fault.line}: {fault.message}"


# --- one fault in words ----------------------------------------------------------------------------


def _words(detail: ErrorDetails, place: Place, file: YamlFile) -> tuple[KeyPath, str]:
    """Key path and message of one fault."""
    key, context, found = place.key, detail.get("ctx", {}), file.at(place.key)
    match detail["type"]:
        case "missing":
            message = f"missing{_only_choice(place) or _purpose(place)}"
        case "extra_forbidden":
            message = _unknown_key(key[-1], place)
        case "literal_error":
            message = _wrong_choice(found, choices_of(place.kind))
        case "union_tag_invalid" | "union_tag_not_found":
            return _wrong_member(place, found, str(context.get("discriminator", "")).strip("'"))
        case "value_error":
            message = str(context["error"])
        case "too_short":
            message = "needs at least one element, found an empty list"
        case "string_too_short":
            message = "must not be empty"
        case "string_pattern_mismatch":
            message = f"expected a name{_purpose(place)}, found {describe(found)}"
        case bound if bound in _LIMITS:
            name, words = _LIMITS[bound]
            limit = _number(context[name])
            message = f"must be {words} {limit}{_purpose(place)}, found {_number(found)}"
        case other:
            expected = _EXPECTED.get(other, detail["msg"])
            message = f"expected {expected}{_purpose(place)}, found {describe(found)}{_quotes(other, found)}"
    return key, message


def _unknown_key(key: str | int, place: Place) -> str:
    known = list(fields_of(place.section))
    near = did_you_mean(key, known)
    return f"unknown key{near or '; known here: ' + ', '.join(known)}"


def _wrong_choice(found: object, choices: tuple[object, ...]) -> str:
    known = [str(choice) for choice in choices]
    expected = known[0] if len(known) == 1 else f"one of {', '.join(known)}"
    return f"expected {expected}, found {describe(found)}{did_you_mean(found, known)}"


def _wrong_member(place: Place, found: object, discriminator: str) -> tuple[KeyPath, str]:
    """A section of several kinds whose kind cannot be told."""
    members = members_of(place.kind)
    if not isinstance(found, dict):
        return place.key, f"expected a mapping (lines of 'key: value'), found {describe(found)}"
    if all(discriminator in fields_of(section) for section in members.values()):
        key = (*place.key, discriminator)
        choices = tuple(members)
        if discriminator not in found:
            return key, f"missing; one of {', '.join(choices)}"
        return key, _wrong_choice(found[discriminator], choices)
    near = next((near for near in (did_you_mean(key, members) for key in found) if near), "")
    keys = ", ".join(found) or "none"
    return place.key, f"one of the keys {', '.join(members)} is needed, found {keys}{near}"


def _purpose(place: Place) -> str:
    field = fields_of(place.section).get(str(place.key[-1])) if place.key else None
    return f" ({field.description})" if field is not None and field.description else ""


def _only_choice(place: Place) -> str:
    choices = choices_of(place.kind)
    return f"; write '{place.key[-1]}: {choices[0]}'" if len(choices) == 1 else ""


def _quotes(kind: str, found: object) -> str:
    simple = isinstance(found, (bool, int, float))
    return "; put it in quotes" if kind == "string_type" and simple else ""


def _number(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


# --- one mistake, one fault ------------------------------------------------------------------------


def _meant_key(place: Place) -> KeyPath:
    near = near_miss(place.key[-1], list(fields_of(place.section)))
    return place.key if near is None else (*place.key[:-1], near)


def _is_echo(detail: ErrorDetails, place: Place, file: YamlFile, meant: Collection[KeyPath]) -> bool:
    """A fault that follows from another: a misspelled key is missing, a list of faulty elements is short."""
    match detail["type"]:
        case "missing":
            return place.key in meant
        case "too_short":
            return bool(file.at(place.key))
        case _:
            return False
