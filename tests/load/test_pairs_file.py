import pytest

from edgelr.errors import DataError
from edgelr.load.pairs_file import read_pairs


def write(tmp_path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_jsonl_and_tsv_say_the_same(tmp_path):
    one = read_pairs(write(tmp_path, "a.jsonl", '{"query": "q", "passage": "p", "group": "g", "id": "i"}\n'))
    other = read_pairs(write(tmp_path, "a.tsv", "q\tp\tg\ti\n"))
    assert one == other
    assert (one[0].query, one[0].passage, one[0].group, one[0].id) == ("q", "p", "g", "i")


def test_a_row_without_a_group_is_its_own(tmp_path):
    rows = read_pairs(write(tmp_path, "a.tsv", "q\tp\n\nr\ts\n"))
    assert [row.group for row in rows] == ["line-1", "line-3"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", '{"passage": "p"}\n{oops\n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: expected an object of texts"),
        ("a.jsonl", '{"query": "q"}\n', r"a\.jsonl:1: 'passage' is missing or empty"),
        ("a.jsonl", '{"passage": "p", "pasage": "x"}\n', "unknown field pasage"),
        ("a.tsv", "q\tp\nalone\n", r"a\.tsv:2: expected 2 to 4 tab-separated columns"),
        ("a.tsv", "q\tp\tg\ti\nr\ts\tg\ti\n", "another row has the id 'i'"),
        ("a.csv", "q,p\n", r"is \.jsonl or \.tsv, found '\.csv'"),
    ],
)
def test_faults_name_file_and_line(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_pairs(write(tmp_path, name, text))


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_pairs(tmp_path / "none.jsonl")
