from pathlib import Path

import pytest

from edgelr.errors import DataError
from edgelr.examples import Labeled
from edgelr.load.labels_file import check_labels, read_labeled

WANTED = (
    Labeled(id="line-2", group="line-2", text="a cat, asleep", label="animals"),
    Labeled(id="line-3", group="line-3", text="seven", label="numbers"),
    Labeled(id="line-4", group="line-3", text="Seven ", label="numbers"),
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", '\ufefflabel,text,more\nanimals,"a cat, asleep",1\nnumbers,seven,2\nnumbers,Seven ,3\n'),
        ("t.tsv", "\na cat, asleep\tanimals\nseven\tnumbers\nSeven \tnumbers\n"),
        (
            "t.jsonl",
            '\n{"text": "a cat, asleep", "label": "animals"}\n{"text": "seven", "label": "numbers"}\n'
            '{"text": "Seven ", "label": "numbers"}\n',
        ),
    ],
)
def test_rows_of_any_kind(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_labeled(tmp_path / name) == WANTED, "the same text is of the same group"


def test_ids_and_groups_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,text,label,group\nx,a,b,g\n")
    assert read_labeled(tmp_path / "t.csv") == (Labeled(id="x", group="g", text="a", label="b"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,class\na,b\n", r"t\.csv: the column 'label' is missing, found text, class"),
        ("", "the column 'text' is missing, found none"),
        ("text,label\na,\n", r"t\.csv:2: 'label' is missing or empty"),
        ('text,label\n"a"b,c\n', "cannot be read as CSV"),
        ("id,text,label\nx,a,b\nx,c,d\n", r"t\.csv:3: another row has the id 'x'"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_labeled(tmp_path / "t.csv")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv does not exist"):
        read_labeled(tmp_path / "t.csv")


def test_a_label_that_the_model_lacks_is_named() -> None:
    check_labels({"test": WANTED}, ["animals", "numbers"])
    with pytest.raises(DataError, match="the label 'numbers' is none of the model's: animals, tools"):
        check_labels({"test": WANTED[:1], "train": WANTED}, ["animals", "tools"])
