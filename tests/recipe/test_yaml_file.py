"""Files that are no recipes, and key paths."""

import os
from pathlib import Path

import pytest

from edgelr.errors import UsageError
from edgelr.recipe.yaml_file import MAX_BYTES, describe, read_key, read_yaml, show_key, yaml_names


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_yaml(path, what="recipe")
    return str(caught.value).replace(f"{path.parent}/", "").replace(str(path.parent), "FOLDER")


def test_a_folder_is_no_recipe(tmp_path):
    folder = tmp_path / "recipes"
    folder.mkdir()
    assert refusal(folder) == "recipes is a folder, not a recipe\n  give a .yaml file"
    (folder / "b.yaml").touch()
    (folder / "a.yml").touch()
    (folder / "c.txt").touch()
    assert refusal(folder) == "recipes is a folder, not a recipe\n  it holds a.yml, b.yaml"


def test_a_missing_file_names_its_neighbor(tmp_path):
    (tmp_path / "docs-search.yaml").touch()
    assert (
        refusal(tmp_path / "docs-serch.yaml")
        == "docs-serch.yaml does not exist\n  did you mean docs-search.yaml?"
    )
    assert refusal(tmp_path / "docs-search") == "docs-search does not exist\n  did you mean docs-search.yaml?"
    assert refusal(tmp_path / "zzz") == "zzz does not exist"
    assert refusal(tmp_path / "no" / "a.yaml") == "a.yaml does not exist\n  nor does the folder FOLDER"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.yaml is empty\n  a recipe is a mapping of keys to values"),
        (b"# only a comment\n\n", "a.yaml is empty\n  a recipe is a mapping of keys to values"),
        (b"\n- 1\n", "a.yaml:2: expected a mapping (lines of 'key: value'), found a list"),
        (b"hello", "a.yaml:1: expected a mapping (lines of 'key: value'), found 'hello' (text)"),
        (b"\x7fELF\0\0", "a.yaml is a binary file, not a recipe"),
        (b"a: 1\nb: \xff\n", "a.yaml:2: not UTF-8 text\n  save it as UTF-8, if it is a recipe"),
        (
            b"a: 1\nb: \x07\n",
            "a.yaml:2: not valid YAML: unacceptable character #x0007: special characters are not allowed",
        ),
        (b"a: " + b"x" * MAX_BYTES, "a.yaml is larger than 1 MiB\n  is it a recipe?"),
    ],
)
def test_content_that_is_no_recipe(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    assert refusal(path) == message


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "a.yaml:3:2: not valid YAML: ", "flow sequence that starts in line 2"),
        ("a:\n  b: 1\n c: 2\n", "a.yaml:3:2: not valid YAML: ", "block mapping that starts in line 1"),
        ("a:\n\t- b\n", "a.yaml:2:1: not valid YAML: ", "; indent with spaces"),
        ("a: 'x\n", "a.yaml:2:1: not valid YAML: ", "quoted scalar that starts in line 1"),
        ("a: *gone\n", "a.yaml:1: the alias '*gone'", "write it out"),
        ('a: "\\U00110000"\n', "a.yaml:1: not valid YAML: ", "chr()"),
    ],
)
def test_syntax_errors_have_line_and_column(tmp_path, text, where, words):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    message = refusal(path)
    assert message.startswith(where)
    assert words in message
    assert "\n" not in message


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    file = read_yaml(path, what="recipe")
    assert (file.value, file.line(("b",))) == ({"a": 1, "b": 2}, 2)


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.yaml")
    assert refusal(tmp_path / "a.yaml") == "a.yaml is not a regular file"


def test_a_name_that_the_system_refuses_is_a_usage_error(tmp_path):
    assert "cannot be read: File name too long" in refusal(tmp_path / ("x" * 300))


def test_a_missing_key_has_the_line_of_its_section(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb:\n  c: 1\n")
    file = read_yaml(path, what="recipe")
    assert file.line(("b", "c", "d")) == 3
    assert file.line(("b", "x")) == 2
    assert file.line(("zzz", 0)) == 1
    assert (file.at(("b", "c")), file.at(("b", "x", 1)), file.at(("a", 0))) == (1, None, None)


@pytest.mark.parametrize(
    "key",
    [
        (),
        ("model", "path"),
        ("validate", "gates", 1, "max"),
        ("session", "entries", "session.x.y"),
        ("a", 0, 2, "b-c"),
    ],
)
def test_key_paths_read_as_they_are_shown(key):
    assert read_key(show_key(key)) == key


def test_key_paths_are_shown_as_people_write_them():
    assert show_key(("validate", "gates", 1, "max")) == "validate.gates[1].max"
    with pytest.raises(ValueError, match="not a key path"):
        read_key("a..b")


def test_values_are_described_in_words():
    values = (None, True, 3, 0.5, "ten", [1], {"a": 1})
    assert [describe(value) for value in values] == [
        "nothing",
        "true (true or false)",
        "3 (whole number)",
        "0.5 (number)",
        "'ten' (text)",
        "a list",
        "a mapping",
    ]
    assert len(describe("x" * 10_000)) < 80


def test_yaml_names_of_no_folder(tmp_path):
    assert yaml_names(tmp_path / "gone") == []
