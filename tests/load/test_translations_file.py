import pytest

from edgelr.errors import DataError
from edgelr.load.translations_file import read_translations


def write(tmp_path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_jsonl_and_tsv_say_the_same(tmp_path):
    line = '{"source": "one", "target": "eins", "group": "g", "id": "i"}\n'
    one = read_translations(write(tmp_path, "a.jsonl", line))
    other = read_translations(write(tmp_path, "a.tsv", " one\teins \tg\ti\n"))
    assert one == other
    assert (one[0].source, one[0].target, one[0].group, one[0].id) == ("one", "eins", "g", "i")


def test_rows_with_the_same_source_stay_together(tmp_path):
    rows = read_translations(write(tmp_path, "a.tsv", "Good  day\tGuten Tag\ngood day\tTag\nbye\tTschüs\n"))
    assert [row.group for row in rows] == ["good day", "good day", "bye"]
    assert [row.id for row in rows] == ["line-1", "line-2", "line-3"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"source": "s"}\n', r"a\.jsonl:1: 'target' is missing or empty"),
        ("a.jsonl", '{"source": "s", "target": "t"}\n{"source": " ", "target": "t"}\n', r":2: 'source' is"),
        ("a.jsonl", '{"query": "q", "passage": "p"}\n', "unknown field passage, query; known are source"),
        ("a.jsonl", '{"source": "s", "target": "\\udc00"}\n', r"a\.jsonl:1: half a character"),
        ("a.tsv", "s\tt\nalone\n", r"a\.tsv:2: expected 2 to 4 tab-separated columns \(source, target"),
        ("a.tsv", "s\tt\tg\ti\nr\tu\tg\ti\n", r"a\.tsv:2: another row has the id 'i'"),
        ("a.tsv", "s\ts\nt\tt\n", r"same text in every row \(2\)\n  the columns may be mixed up"),
    ],
)
def test_faults_name_file_and_line(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_translations(write(tmp_path, name, text))


def test_some_texts_are_the_same_in_both_languages(tmp_path):
    rows = read_translations(write(tmp_path, "a.tsv", "5 km\t5 km\none\teins\n"))
    assert rows[0].source == rows[0].target
