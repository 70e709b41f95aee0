"""Plain values, lines and limits."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelr.errors import UsageError
from edgelr.recipe.yaml_file import read_yaml
from edgelr.recipe.yaml_tree import MAX_ALIASES, MAX_DEPTH, MAX_KEY, MAX_VALUES, plain_value

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn"))),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), inner)
    ),
    max_leaves=12,
)


def read(folder: Path, text: str):
    path = folder / "a.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path, what="recipe")


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(folder, text)
    return str(caught.value).removeprefix(str(folder / "a.yaml"))


@settings(max_examples=60, deadline=None)
@given(JSON_VALUES)
def test_json_is_yaml_and_reads_as_itself(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("json")
    assert read(folder, json.dumps({"value": value}, ensure_ascii=False)).value == {"value": value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("True", True),
        ("false", False),
        ("yes", "yes"),
        ("no", "no"),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("-3", -3),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1e-3", 0.001),
        ("5.0e-4", 0.0005),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("1.2.3", "1.2.3"),
        ("9" * 41, 1e41),
    ],
)
def test_plain_value_follows_the_core_schema(text, value):
    found = plain_value(text)
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_a_number_here():
    assert math.isnan(plain_value(".NaN"))


def test_quoted_values_stay_text(tmp_path):
    assert read(tmp_path, "a: '1'\nb: \"true\"\nc: |\n  2\n").value == {"a": "1", "b": "true", "c": "2\n"}


def test_lines_are_those_of_keys_and_elements(tmp_path):
    file = read(tmp_path, "# comment\na:\n  b:\n    - 1\n    - c: 2\n      d:\n\ne: {f: 3,\n  g: 4}\n")
    assert file.lines == {
        (): 2,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "b", 0): 4,
        ("a", "b", 1): 5,
        ("a", "b", 1, "c"): 5,
        ("a", "b", 1, "d"): 6,
        ("e",): 8,
        ("e", "f"): 8,
        ("e", "g"): 9,
    }


def test_every_duplicate_is_a_fault_with_both_lines(tmp_path):
    file = read(tmp_path, "a: 1\nb: {c: 1, c: 2}\na:\n  - 2\n")
    assert [(fault.line, fault.key, fault.message) for fault in file.faults] == [
        (2, ("b", "c"), "given twice; the first is in line 2"),
        (3, ("a",), "given twice; the first is in line 1"),
    ]
    assert file.value == {"a": 1, "b": {"c": 1}}


def test_an_alias_may_stand_for_a_single_value(tmp_path):
    assert read(tmp_path, "a: &x cpu-1t\nb: [*x, *x]\n").value == {"a": "cpu-1t", "b": ["cpu-1t", "cpu-1t"]}


def test_billion_laughs_are_refused_at_the_first_laugh(tmp_path):
    text = "a: &a [ha, ha]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\n"
    assert refusal(tmp_path, text) == ":2: the alias '*a' does not name a single value above it; write it out"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [*x]", ":1: the alias '*x' does not name a single value above it; write it out"),
        ("a: 1\n--- \nb: 2", ":2: a second document ('---'); one file holds one"),
        (
            "a: 1\nb: !!python/object/apply:os.system [id]",
            ":2: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed; plain values only",
        ),
        ("a: !!str 5", ":1: the tag 'tag:yaml.org,2002:str' is not allowed; plain values only"),
        ("? [1]\n: 2", ":1: a list or mapping as a key; does a text with brackets need quotes?"),
        ('a: "\\0"', ":1: a control character inside a value"),
        ('a: "\\ud800"', ":1: a control character inside a value"),
        ('"\\e[31m": 1', ":1: a control character inside a value"),
    ],
)
def test_what_no_recipe_needs_is_refused(tmp_path, text, message):
    assert refusal(tmp_path, text) == message


def test_limits_hold_exactly(tmp_path):
    # The mapping itself is one value and one level.
    read(tmp_path, f"a: {'[' * (MAX_DEPTH - 1)}{']' * (MAX_DEPTH - 1)}")
    assert refusal(tmp_path, f"a: {'[' * MAX_DEPTH}{']' * MAX_DEPTH}") == ":1: nested deeper than 32 levels"
    read(tmp_path, f"a: [{'1,' * (MAX_VALUES - 2)}]")
    assert refusal(tmp_path, f"a: [{'1,' * (MAX_VALUES - 1)}]") == ":1: more than 10000 values"
    read(tmp_path, f"a: &x 1\nb: [{'*x ,' * MAX_ALIASES}]")
    text = f"a: &x 1\nb: [{'*x ,' * (MAX_ALIASES + 1)}]"
    assert refusal(tmp_path, text) == ":2: more than 16 aliases; write the values out"
    read(tmp_path, f"{'k' * MAX_KEY}: 1")
    assert refusal(tmp_path, f"{'k' * (MAX_KEY + 1)}: 1") == ":1: a key of more than 200 characters"


def test_a_million_brackets_are_refused_at_once(tmp_path):
    assert refusal(tmp_path, "[" * 1_000_000) == ":1: nested deeper than 32 levels"
