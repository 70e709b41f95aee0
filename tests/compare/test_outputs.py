import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from edgelr.compare import outputs
from edgelr.compare.check import Comparison, Row
from edgelr.compare.sides import open_side
from edgelr.terminal import finite


def row(quantity, outcome, ratio=1.1, limit=0.05) -> Row:
    interval = (None, None) if quantity == "bytes" else (ratio - 0.02, ratio + 0.02)
    limit = None if outcome is None else limit
    return Row(
        quantity=quantity,
        ratio=ratio,
        low=interval[0],
        high=interval[1],
        noise=0.01,
        limit=limit,
        outcome=outcome,
    )


def comparison(outcome) -> Comparison:
    return Comparison(
        outcome=outcome,
        rows=(row("p50", outcome), row("p90", None), row("bytes", "pass", 1.0)),
        restarts=16,
        confirmed=outcome == "regression",
        seconds=50.0,
        more_seconds=30.0 if outcome == "inconclusive" else 0.0,
        p50_ms=(1.0, 1.1),
        grown=(("MatMul", 0.5, 0.6),) if outcome == "regression" else (),
        notes=("a note",),
    )


@pytest.fixture
def sides(one_layer):
    return open_side("base", one_layer(1)), open_side("candidate", one_layer(2))


SUMMARIES = {
    "pass": "pass: +10.0% on cpu-1t, within what is accepted (16 restarts, 50 s)",
    "regression": "regression: p50; p50 +10.0% on cpu-1t, seen again in fresh restarts (16 restarts, 50 s)",
    "inconclusive": "inconclusive: +10.0% on cpu-1t, with too much noise to be sure; "
    "about 30 s more might tell (16 restarts, 50 s)",
}


@pytest.mark.parametrize("outcome", SUMMARIES)
def test_one_sentence(outcome):
    assert outputs.summary(comparison(outcome), "cpu-1t") == SUMMARIES[outcome]


@pytest.mark.parametrize("outcome", SUMMARIES)
def test_junit_counts_what_failed_and_what_was_skipped(outcome, sides):
    root = ET.fromstring(outputs.junit(comparison(outcome), *sides, "cpu-1t"))
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    assert suite.attrib["tests"] == "2"
    assert suite.attrib["failures"] == str(int(outcome == "regression"))
    assert suite.attrib["skipped"] == str(int(outcome == "inconclusive"))
    cases = {case.attrib["name"]: [child.tag for child in case] for case in suite}
    expected = {"pass": [], "regression": ["failure"], "inconclusive": ["skipped"]}[outcome]
    assert cases == {"p50": expected, "bytes": []}
    assert all(set(case.attrib) == {"classname", "name", "time"} for case in suite)


def test_markdown_is_a_table(sides):
    text = outputs.markdown(comparison("regression"), *sides, "cpu-1t")
    assert text.startswith("### Latency of `")
    assert "| p50 | ×1.100 | ×1.080 to ×1.120 | 1.0% | ×1.050 | regression |" in text
    assert "| p90 | ×1.100 | ×1.080 to ×1.120 | 1.0% | - |  |" in text
    assert "| bytes | ×1.000 | exact | - | ×1.050 | pass |" in text
    assert text.endswith("- MatMul: 0.500 ms a call, now 0.600\n- a note\n")
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_the_document_is_json(sides):
    found = json.loads(json.dumps(finite(outputs.document(comparison("pass"), *sides, "cpu-1t"))))
    assert found["outcome"] == "pass"
    assert [each["quantity"] for each in found["rows"]] == ["p50", "p90", "bytes"]
    assert found["sides"]["candidate"]["bytes"] == sides[1].bytes
    assert found["accuracy"] == {}
    assert found["host"]["cores"] >= 1


def test_accuracy_is_what_both_packages_say(make_package):
    one, other = (open_side(name, make_package(name).folder) for name in ("base", "candidate"))
    known = [
        replace(side, package=replace(side.package, accuracy=accuracy))
        for side, accuracy in ((one, {"cosine": 0.9, "mrr@10": 0.5}), (other, {"cosine": 0.8}))
    ]
    assert outputs.accuracy(*known) == {"cosine": (0.9, 0.8)}


def test_a_line_of_history_has_ratios_and_no_times(sides):
    line = outputs.history(comparison("pass"), *sides, "cpu-1t", "2030-01-01T00:00:00+00:00")
    assert "\n" not in line
    found = json.loads(line)
    assert found["ratios"] == {"p50": 1.1, "p90": 1.1, "bytes": 1.0}
    assert (found["outcome"], len(found["host"])) == ("pass", 16)
    assert not any("ms" in key for key in found)
