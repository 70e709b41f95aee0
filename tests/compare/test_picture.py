import math
import xml.etree.ElementTree as ET

import pytest

from edgelr.compare.picture import comparison_picture, head, line, text, ticks

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("outcome", ["pass", "regression", "inconclusive"])
def test_both_distributions_and_every_restart_are_drawn(outcome, comparison_of):
    root = ET.fromstring(comparison_picture(comparison_of(outcome), "cpu-1t"))
    assert len(root.findall(f"{SVG}polygon")) == 2
    assert len(root.findall(f"{SVG}circle")) == 16 + 16 + 1
    words = [each.text for each in root.iter(f"{SVG}text")]
    assert {"base: p50 1 ms", "candidate: p50 1.1 ms", "candidate", "twin (A/A)", outcome} <= set(words)
    assert "tolerance ×1.05" in words
    for circle in root.findall(f"{SVG}circle"):
        assert 0 < float(circle.attrib["cx"]) < float(root.attrib["width"])


def test_calls_that_were_interrupted_are_told_not_drawn(comparison_of, restart_of):
    times = {"base": ((1.0,) * 90, (9.0,) * 10), "candidate": ((1.1,) * 100,), "twin": ((1.0,),)}
    found = comparison_of("pass", measured=(restart_of(times_ms=times),))
    assert "base: p50 1 ms, 10.0% beyond this picture" in comparison_picture(found, "cpu-1t")


def test_one_restart_alone_can_be_drawn(comparison_of, row_of, restart_of):
    only = type(row_of("p50", "inconclusive"))(
        quantity="p50", ratio=1.0, low=None, high=None, noise=0.0, limit=0.05, outcome="inconclusive"
    )
    times = dict.fromkeys(("base", "candidate", "twin"), ((1.0,),))
    changes = {"rows": (only,), "log_ratios": ((0.0,), (0.0,)), "measured": (restart_of(times_ms=times),)}
    ET.fromstring(comparison_picture(comparison_of("inconclusive", **changes), "a <device>"))


def test_ticks_are_round_and_inside():
    assert ticks(0.97, 1.12) == pytest.approx([1.0, 1.05, 1.1])
    for low, high in ((0.0, 1.0), (0.013, 0.0131), (3, 4000)):
        found = ticks(low, high)
        assert 1 <= len(found) <= 7
        assert all(low <= each <= high for each in found)
        step = (found[1] - found[0]) if len(found) > 1 else found[0]
        assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in {1, 2, 5, 10}


def test_words_are_quoted():
    assert "&lt;b&gt;" in text(0, 0, "<b>")
    assert 'stroke-dasharray="4 3"' in line(0, 0, 1, 1, "#000", dashed=True)
    assert "stroke-dasharray" not in line(0, 0, 1, 1, "#000")
    ET.fromstring("".join([*head(10, "a & b"), "</svg>"]))
