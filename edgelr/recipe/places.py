"""From a location of pydantic's to the key path that the file has, and what is valid there.

A location names the member of a union by its tag, which no file contains: it is followed through the types.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from edgelr.recipe.yaml_tree import KeyPath


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place in a file, as the schema sees it.

    Attributes:
        key: The key path as the file has it.
        kind: The type that is expected there; None where nothing is.
        section: The section that holds the last key; None at the top and for elements of lists.
    """

    key: KeyPath
    kind: Any
    section: type[BaseModel] | None


def find_place(schema: type[BaseModel], location: Sequence[str | int]) -> Place:
    """Follow a location of pydantic's through the types of ``schema``."""
    key: list[str | int] = []
    kind: Any = schema
    section: type[BaseModel] | None = None
    for part in location:
        members = members_of(kind)
        if members:
            kind = members.get(str(part))
            continue
        kind = _plain(kind)
        section = kind if _is_section(kind) else None
        if section is not None:
            field = fields_of(section).get(str(part))
            kind = field.annotation if field is not None else None
        else:
            kind = _element(kind)
        key.append(part)
    return Place(key=tuple(key), kind=kind, section=section)


def fields_of(section: type[BaseModel] | None) -> Mapping[str, FieldInfo]:
    """The fields of a section by the key that a file has for each."""
    if section is None:
        return {}
    return {field.alias or name: field for name, field in section.model_fields.items()}


def choices_of(kind: Any) -> tuple[object, ...]:  # noqa: ANN401 - any type
    """The values of a ``Literal``; none for another type."""
    kind = _plain(kind)
    return get_args(kind) if get_origin(kind) is Literal else ()


def members_of(kind: Any) -> dict[str, type[BaseModel]]:  # noqa: ANN401 - any type
    """The sections that may stand at one place, by tag; empty where there is only one kind.

    The tag is that of ``Tag``, or the value of the field by which the union is told apart.
    """
    members: dict[str, type[BaseModel]] = {}
    options = _options(_without_metadata(kind))
    if len(options) < 2:
        return {}
    for option in options:
        section = _without_metadata(option)
        if not _is_section(section):
            return {}
        tags = [extra.tag for extra in getattr(option, "__metadata__", ()) if isinstance(extra, Tag)]
        if not tags:
            literals = (choices_of(field.annotation) for field in section.model_fields.values())
            tags = next(([str(each) for each in values] for values in literals if values), [])
        members.update(dict.fromkeys(tags, section))
    return members


def _is_section(kind: Any) -> bool:  # noqa: ANN401
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _plain(kind: Any) -> Any:  # noqa: ANN401
    """A type without its metadata and without ``| None``."""
    kind = _without_metadata(kind)
    options = _options(kind)
    return _without_metadata(options[0]) if len(options) == 1 else kind


def _without_metadata(kind: Any) -> Any:  # noqa: ANN401
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def _options(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The members of a union but None; the type itself where it is no union."""
    if get_origin(kind) not in (Union, types.UnionType):
        return (kind,)
    return tuple(option for option in get_args(kind) if option is not type(None))


def _element(kind: Any) -> Any:  # noqa: ANN401
    """Type of the elements of a list or of the values of a mapping."""
    arguments = get_args(kind)
    match get_origin(kind):
        case origin if origin is tuple:
            return arguments[0]
        case origin if origin is dict:
            return arguments[1]
        case _:
            return None
