"""Dataclasses from JSON: of their types, or a message that names the place."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from edgelr.typed import AtLeast, WrongTypeError, typed


@dataclass(frozen=True)
class Inner:
    size: int | str


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: Annotated[int, AtLeast(1)]
    share: float = 1.0
    choice: bool | Literal["never"] = False
    token: Annotated[int, AtLeast(0)] | None = None
    inner: tuple[Inner, ...] = ()
    named: dict[str, Inner] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)


def test_values_become_what_the_fields_say() -> None:
    text = """{"count": 2, "share": 3, "choice": "never", "token": null,
               "inner": [{"size": 1}, {"size": "n"}], "named": {"a": {"size": 5}},
               "anything": {"b": [1, null]}}"""
    found = typed(Outer, json.loads(text))
    assert found == Outer(
        count=2,
        share=3.0,
        choice="never",
        inner=(Inner(1), Inner("n")),
        named={"a": Inner(5)},
        anything={"b": [1, None]},
    )
    assert type(found.share) is float


def test_what_is_left_out_has_its_default() -> None:
    assert typed(Outer, {"count": 1}) == Outer(count=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count: expected at least 1, found 0"),
        ({"count": True}, "count: expected a whole number, found True"),
        ({"count": 1.0}, "count: expected a whole number, found 1.0"),
        ({"share": float("nan")}, "share: expected a finite number, found nan"),
        ({"share": False}, "share: expected a finite number, found False"),
        ({"choice": 1}, "choice: expected true or false, found 1"),
        ({"choice": "always"}, "choice: expected true or false, found 'always'"),
        ({"token": -1}, "token: expected at least 0, found -1"),
        ({"inner": {}}, "inner: expected a list, found {}"),
        ({"inner": [{"size": 1}, {"size": []}]}, r"inner\.1\.size: expected a whole number, found \[\]"),
        ({"inner": [{}]}, r"inner\.0\.size: missing"),
        ({"named": {"a": 5}}, r"named\.a: expected a mapping, found 5"),
        ({"more": 1}, "more: unknown; known are count, share, choice"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WrongTypeError, match=f"^{message}"):
        typed(Outer, {"count": 1, **change})


@pytest.mark.parametrize("document", [None, [], "text", {1: 2}])
def test_what_is_no_mapping_is_refused(document: object) -> None:
    with pytest.raises(WrongTypeError, match="it: expected a mapping"):
        typed(Outer, document)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(WrongTypeError, match="count: missing"):
        typed(Outer, {})


def test_a_long_value_is_not_repeated_in_full() -> None:
    with pytest.raises(WrongTypeError) as caught:
        typed(Outer, {"count": "x" * 1000})
    assert len(str(caught.value)) < 120
