import pytest

from edgelr.errors import DataError
from edgelr.examples import Translation
from edgelr.load.rows import FileRow, distinct, normalized, read_rows

COLUMNS = ("source", "target", "group", "id")


def write(tmp_path, name: str, text: str | bytes):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_row_says_where_it_was_found(tmp_path):
    path = write(tmp_path, "a.tsv", "one\teins\n\ntwo\tzwei\tg\ti\n")
    first, second = read_rows(path, COLUMNS)
    assert first == FileRow(f"{path}:1", 1, {"source": "one", "target": "eins"})
    assert (first.id, second.id, second.number) == ("line-1", "i", 3)


def test_json_may_have_its_keys_in_any_order(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"target": "eins", "source": "one"}\n')
    assert read_rows(path, COLUMNS)[0].texts == {"source": "one", "target": "eins"}


def test_only_a_newline_ends_a_line_and_a_mark_of_byte_order_is_none_of_the_text(tmp_path):
    path = write(tmp_path, "a.tsv", "\ufeffone\u2028two\teins\r\nthree\tdrei\r\n")
    rows = read_rows(path, COLUMNS)
    assert [row.texts["source"] for row in rows] == ["one\u2028two", "three"]
    assert [row.texts["target"] for row in rows] == ["eins", "drei"]


def test_normalized_texts_differ_in_more_than_case_and_spaces():
    assert normalized("  Straße\u00a0 1 ") == normalized("strasse 1")
    assert normalized("1 km") != normalized("2 km")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "\n", r"a\.jsonl is empty\n  one pair a line"),
        ("a.jsonl", "{}\n{oops\n", r'a\.jsonl:2: not JSON: (.|\n)*such as {"source": …, "target": …}'),
        ("a.jsonl", "[1]\n", r'a\.jsonl:1: expected an object of texts such as {"source": …, "target": …}'),
        ("a.jsonl", '{"source": 1}\n', r"a\.jsonl:1: expected an object of texts"),
        ("a.jsonl", "[" * 100_000 + "\n", r"a\.jsonl:1: not JSON"),
        ("a.jsonl", '{"sorce": "x"}\n', "unknown field sorce; known are source, target, group, id"),
        ("a.jsonl", '{"source": "\\ud800"}\n', r"a\.jsonl:1: half a character"),
        ("a.tsv", "alone\n", r"a\.tsv:1: expected 2 to 4 tab-separated columns \(source, .*, found 1"),
        ("a.tsv", "a\tb\tc\td\te\n", r"a\.tsv:1: .*, found 5\n  put one tab between two columns"),
        ("a.tsv", b"\xff\xfe\n", r"a\.tsv cannot be read as UTF-8 text"),
        ("a.csv", "q,p\n", r"a data file is \.jsonl or \.tsv, found '\.csv'"),
        ("plain", "q,p\n", r"found 'plain'"),
    ],
)
def test_faults_name_file_and_line(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_rows(write(tmp_path, name, text), COLUMNS)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl does not exist"):
        read_rows(tmp_path / "none.jsonl", COLUMNS)
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path / "folder.tsv", COLUMNS)


def test_a_required_text_is_there_and_is_not_blank():
    row = FileRow("a.tsv:3", 3, {"source": "one", "target": " \u00a0"})
    assert row.required("source") == "one"
    for column in ("target", "group"):
        with pytest.raises(DataError, match=rf"a\.tsv:3: '{column}' is missing or empty"):
            row.required(column)


def test_the_second_of_two_equal_ids_is_named():
    rows = [FileRow(f"a.tsv:{number}", number, {}) for number in (1, 2)]
    examples = [Translation(id=name, group="g", source="s", target="t") for name in ("i", "j")]
    assert distinct(zip(rows, examples, strict=True)) == tuple(examples)
    with pytest.raises(DataError, match=r"a\.tsv:2: another row has the id 'i'"):
        distinct((row, examples[0]) for row in rows)
