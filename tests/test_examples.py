import pytest

from edgelr.errors import DamagedArtifactError
from edgelr.examples import Example, History, read_examples, spread, write_examples

EXAMPLES = (Example(id="a", group="g", passage="über"), Example(id="b", group="g", passage="p", query="q"))


def test_what_is_written_is_read(tmp_path):
    write_examples(tmp_path / "sub" / "e.jsonl", EXAMPLES)
    assert read_examples(tmp_path / "sub" / "e.jsonl", Example) == EXAMPLES


@pytest.mark.parametrize("line", ["{oops", '{"id": "a"}', '{"id": "a", "other": 1}'])
def test_a_line_that_is_no_example_is_named(tmp_path, line):
    path = tmp_path / "e.jsonl"
    write_examples(path, EXAMPLES)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DamagedArtifactError, match=r"e\.jsonl:3"):
        read_examples(path, Example)


def test_a_few_are_spread_over_all():
    examples = [Example(id=str(number), group="g", passage="p") for number in range(10)]
    assert [each.id for each in spread(examples, 4)] == ["0", "2", "5", "7"]
    assert spread(examples, 10) == spread(examples, 99) == tuple(examples)
    assert spread(examples, 0) == spread([], 3) == ()


def test_a_history_is_rows_of_items(tmp_path):
    path = tmp_path / "h.jsonl"
    histories = (
        History(id="a", group="a", seen=(3, 1), liked=(), disliked=(2,)),
        History(id="b", group="b", seen=(), liked=(), disliked=()),
    )
    write_examples(path, histories)
    assert read_examples(path, History) == histories
    assert [each.scored for each in histories] == [True, False]


@pytest.mark.parametrize("seen", ['"12"', "[-1]", "[1.5]", "[true]", "7"])
def test_a_history_of_anything_else(tmp_path, seen):
    path = tmp_path / "h.jsonl"
    path.write_text(f'{{"id": "a", "group": "a", "seen": {seen}, "liked": [], "disliked": []}}\n')
    with pytest.raises(DamagedArtifactError, match=r"h\.jsonl:1"):
        read_examples(path, History)
