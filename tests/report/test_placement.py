"""The section on placement."""

from typing import Any

from edgelr.report.placement import MOST, placement_markdown


def test_every_figure_has_its_evidence(document: dict[str, Any]) -> None:
    text = placement_markdown(document)
    assert "| cpu-1t (run) | candidate | CPUExecutionProvider | 40 | 1.000 | – | – |" in text
    assert "| phone (emulated) | candidate | QNNExecutionProvider | 30 | 0.750 | 0.9900 | 2 |" in text
    assert "| phone (emulated) | Softmax | dynamic shape | 1 | 0.0000 |" in text


def test_the_same_reason_is_one_line(document: dict[str, Any]) -> None:
    (row,) = document["fallbacks"]
    again = {**row, "reason": "dynamic shape of something.else/1", "macs_share": 0.25}
    typed = {**row, "reason": "type int64 of input 1"}
    dense = {**row, "variant": "dense-fp32"}
    text = placement_markdown({**document, "fallbacks": [row, again, typed, dense]})
    assert "| Softmax | dynamic shape | 2 | 0.2500 |" in text
    assert "| Softmax | type int64 of input 1 | 1 | 0.0000 |" in text


def test_many_reasons_are_cut(document: dict[str, Any]) -> None:
    (row,) = document["fallbacks"]
    many = [{**row, "operator": f"Op{number}"} for number in range(MOST + 3)]
    text = placement_markdown({**document, "fallbacks": many})
    assert text.endswith("\n\n3 more are in report.json.")
    assert "Op19" in text
    assert "Op20" not in text


def test_nothing_is_said_of_nothing(document: dict[str, Any]) -> None:
    assert placement_markdown({**document, "placement": []}) == ""
    assert "left to the CPU" not in placement_markdown({**document, "fallbacks": []})
