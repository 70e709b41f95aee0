"""Texts of a user's own, and documentation as running text."""

from pathlib import Path

import pytest

from edgelr.errors import DataError
from edgelr.examples import Example
from edgelr.load.passages import as_passages, read_passages


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_paragraphs_are_passages_with_their_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "\ufeffone\ntwo\n\n \n  three \n\n\nOne\nTWO")
    found = read_passages(path)
    assert [(each.id, each.text) for each in found] == [
        ("line-1", "one\ntwo"),
        ("line-5", "  three "),
        ("line-8", "One\nTWO"),
    ]
    assert found[0].group == found[2].group != found[1].group, "equal but for case: never split"


def test_rows_have_groups_of_their_own(tmp_path: Path) -> None:
    rows = '{"text": "a b", "group": "g"}\n{"text": "A  b"}\n{"text": "c", "id": "last"}\n'
    found = read_passages(written(tmp_path, "a.jsonl", rows))
    assert [(each.id, each.group) for each in found] == [("line-1", "g"), ("line-2", "a b"), ("last", "c")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "\n \n", r"a\.txt is empty"),
        ("a.csv", "x", "texts are .jsonl or .txt, found '.csv'"),
        ("a.jsonl", '{"text": " "}', r"a\.jsonl:1: 'text' is missing or empty"),
        ("a.jsonl", '{"txt": "x"}', r"a\.jsonl:1: unknown field txt"),
        ("a.jsonl", "", r"a\.jsonl is empty"),
    ],
)
def test_faults_name_the_file_and_the_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_passages(written(tmp_path, name, text))


def test_a_missing_file_and_one_that_is_no_text_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_passages(tmp_path / "none.txt")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        read_passages(tmp_path / "a.txt")


def test_a_docstring_is_its_summary_and_the_rest() -> None:
    examples = [
        Example(id="a", group="g", query="Copy a file.", passage="It may fail."),
        Example(id="b", group="g", passage="Only this."),
    ]
    assert [each.text for each in as_passages(examples)] == ["Copy a file. It may fail.", "Only this."]
