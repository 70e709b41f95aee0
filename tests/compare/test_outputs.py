import json
import xml.etree.ElementTree as ET

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
