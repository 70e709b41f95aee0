"""Read a frozen dataclass from JSON, strictly: every field of its type, none missing, none unknown.

For what a device reads. There pydantic would take 15 MiB and a tenth of a second, more than most packages do.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


@dataclass(frozen=True)
class AtLeast:
    """The least that a number may be, in its annotation: ``Annotated[int, AtLeast(0)]``."""

    value: int


class WrongTypeError(ValueError):
    """A value is not of its type.

    Attributes:
        where: Its key path, such as ``cost.bytes``; empty for the whole.
        reason: What was expected and what was found.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where or 'it'}: {reason}")
        self.where, self.reason = where, reason


def typed(kind: type[T], document: object) -> T:
    """A dataclass from what ``json.loads`` gives.

    Args:
        kind: A dataclass whose fields are numbers, text, truth values, other dataclasses, and tuples,
            mappings and unions of these. Numbers are finite.
        document: Any JSON value.

    Raises:
        WrongTypeError: It is not of that type.
    """
    found: T = _value(kind, document, "")
    return found


def _value(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - any type
    """The value, with lists as tuples and mappings as dataclasses where the type says so."""
    arguments = get_args(kind)
    found: Any
    match get_origin(kind) or kind:
        case origin if origin is Annotated:
            found = _bounded(arguments[0], arguments[1], value, where)
        case origin if origin in (Union, types.UnionType):
            found = _one_of(arguments, value, where)
        case origin if origin is Literal:
            found = _choice(arguments, value, where)
        case origin if origin is tuple:
            entries = enumerate(_list(value, where))
            found = tuple(_value(arguments[0], each, _under(where, place)) for place, each in entries)
        case origin if origin is dict:
            pairs = _mapping(value, where).items()
            found = {key: _value(arguments[1], each, _under(where, key)) for key, each in pairs}
        case section if is_dataclass(section):
            found = _section(section, _mapping(value, where), where)
        case plain:
            found = _plain(plain, value, where)
    return found


def _section(kind: Any, value: Mapping[str, Any], where: str) -> Any:  # noqa: ANN401 - any dataclass
    hints = get_type_hints(kind, include_extras=True)
    for key in value:
        if key not in hints:
            raise WrongTypeError(_under(where, key), f"unknown; known are {', '.join(hints)}")
    for field in fields(kind):
        needed = field.default is MISSING and field.default_factory is MISSING
        if needed and field.name not in value:
            raise WrongTypeError(_under(where, field.name), "missing")
    return kind(**{key: _value(hints[key], each, _under(where, key)) for key, each in value.items()})


def _plain(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - any type
    if kind is Any:
        return value
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if type(value) is not kind or kind is float:
        names = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false"}
        raise _wrong(where, names.get(kind, "nothing"), value)
    return value


def _bounded(kind: Any, bound: AtLeast, value: Any, where: str) -> Any:  # noqa: ANN401 - any type
    number = _value(kind, value, where)
    if number < bound.value:
        raise _wrong(where, f"at least {bound.value}", value)
    return number


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:  # noqa: ANN401 - any type
    faults = []
    for kind in kinds:
        try:
            return _value(kind, value, where)
        except WrongTypeError as error:
            faults.append(error)
    raise faults[0]


def _choice(choices: tuple[Any, ...], value: Any, where: str) -> Any:  # noqa: ANN401 - any type
    if not any(type(value) is type(each) and value == each for each in choices):
        raise _wrong(where, f"one of {', '.join(map(str, choices))}", value)
    return value


def _list(value: Any, where: str) -> list[Any] | tuple[Any, ...]:  # noqa: ANN401 - JSON
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list", value)
    return value


def _mapping(value: Any, where: str) -> Mapping[str, Any]:  # noqa: ANN401 - JSON
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _wrong(where, "a mapping", value)
    return value


def _under(where: str, key: str | int) -> str:
    return f"{where}.{key}" if where else str(key)


def _wrong(where: str, expected: str, value: object) -> WrongTypeError:
    found = repr(value)
    return WrongTypeError(
        where, f"expected {expected}, found {found if len(found) <= 60 else found[:57] + '...'}"
    )
