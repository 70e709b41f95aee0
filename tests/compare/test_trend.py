import json
import xml.etree.ElementTree as ET

import pytest

from edgelr.compare import outputs
from edgelr.compare.sides import open_side
from edgelr.compare.trend import read_history, table, trend_picture
from edgelr.errors import DataError, UsageError


@pytest.fixture
def history(tmp_path, comparison_of, one_layer):
    sides = open_side("base", one_layer(1)), open_side("candidate", one_layer(2))
    path = tmp_path / "history.jsonl"
    lines = [
        outputs.history(comparison_of(outcome), *sides, device, f"2030-01-0{day}T00:00:00+00:00")
        for day, (outcome, device) in enumerate(
            [("pass", "cpu-1t"), ("regression", "cpu-1t"), ("inconclusive", "cpu-4t")], start=1
        )
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_what_compare_appends_is_read(history):
    found = read_history(history)
    assert [each.outcome for each in found] == ["pass", "regression", "inconclusive"]
    heading, first, *_ = table(found)
    assert len(heading) == len(first)
    assert dict(zip(heading, first, strict=True))["p50"] == "×1.100"
    assert dict(zip(heading, first, strict=True))["memory"] == "-", "it was not among the rows"


def test_every_comparison_is_a_dot_and_every_device_a_row(history):
    root = ET.fromstring(trend_picture(read_history(history)))
    svg = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{svg}circle")) == 3
    assert {"cpu-1t", "cpu-4t"} <= {each.text for each in root.iter(f"{svg}text")}
    titles = [each.findtext(f"{svg}title") for each in root.findall(f"{svg}circle")]
    assert titles[1] == "2030-01-02T00:00:00+00:00: regression, ×1.100"


def test_a_line_that_is_none_is_named(history):
    good = history.read_text(encoding="utf-8")
    for bad, reason in (
        ("not json", "Expecting value"),
        (json.dumps({**json.loads(good.splitlines()[0]), "outcome": "faster"}), "outcome: "),
        ("[]", "it: "),
    ):
        history.write_text(good + bad + "\n", encoding="utf-8")
        with pytest.raises(DataError, match=rf"history\.jsonl:4: no line of a comparison: .*{reason}"):
            read_history(history)


def test_nothing_to_show_is_said(tmp_path):
    with pytest.raises(UsageError, match="there is no history"):
        read_history(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="is empty"):
        read_history(tmp_path / "empty.jsonl")
