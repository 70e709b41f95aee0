from pathlib import Path

import pytest

from edgelr.errors import DataError
from edgelr.examples import Tagged
from edgelr.load.tags_file import read_tagged

CONLL = "-DOCSTART- -X- O\n\nAnna NNP B-PER\nlaughs VBZ O\n\n\nin IN O\nRome NNP B-LOC"


def test_any_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "t.conll").write_text(CONLL)
    assert [(each.text, each.tags) for each in read_tagged(tmp_path / "t.conll")] == [
        ("Anna laughs", "B-PER O"),
        ("in Rome", "O B-LOC"),
    ]
    row = '{"text": " Anna  laughs ", "tags": "B-PER O", "id": "x", "group": "g"}'
    (tmp_path / "t.jsonl").write_text(row)
    assert read_tagged(tmp_path / "t.jsonl") == (
        Tagged(id="x", group="g", text="Anna laughs", tags="B-PER O"),
    )
    (tmp_path / "t.tsv").write_text("Anna laughs\tB-PER O\nanna laughs\tB-PER O\n")
    one, other = read_tagged(tmp_path / "t.tsv")
    assert one.group == other.group, "the same text"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.conll", "Anna B-PER\nlaughs\n", r"t\.conll:2: a word without a tag: 'laughs'"),
        ("t.tsv", "a b c\tO O\n", r"t\.tsv:1: 3 words have 2 tags"),
        ("t.tsv", "a\t \n", "'tags' is missing or empty"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_tagged(tmp_path / name)
    with pytest.raises(DataError, match="does not exist"):
        read_tagged(tmp_path / "absent.conll")
