import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from edgelr.compare import outputs
from edgelr.compare.sides import open_side
from edgelr.terminal import finite

WHEN = "2030-01-01T00:00:00+00:00"


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
def test_one_sentence(outcome, comparison_of):
    assert outputs.summary(comparison_of(outcome), "cpu-1t") == SUMMARIES[outcome]


@pytest.mark.parametrize("outcome", SUMMARIES)
def test_junit_counts_what_failed_and_what_was_skipped(outcome, comparison_of, sides, check_junit):
    text = outputs.junit(comparison_of(outcome), *sides, "cpu-1t", WHEN)
    check_junit(text)
    (suite,) = ET.fromstring(text)
    assert suite.attrib["tests"] == "2"
    assert suite.attrib["failures"] == str(int(outcome == "regression"))
    assert suite.attrib["skipped"] == str(int(outcome == "inconclusive"))
    cases = {case.attrib["name"]: [child.tag for child in case] for case in suite.iter("testcase")}
    expected = {"pass": [], "regression": ["failure"], "inconclusive": ["skipped"]}[outcome]
    assert cases == {"p50": expected, "bytes": []}
    assert SUMMARIES[outcome] in suite.findtext("system-out")


def test_the_schema_of_junit_finds_what_is_wrong(comparison_of, sides, check_junit):
    text = outputs.junit(comparison_of("pass"), *sides, "cpu-1t", WHEN)
    for before, after in (('tests="2"', ""), ("<system-err />", ""), (":00:00", ":00:00Z")):
        assert before in text
        with pytest.raises(Exception, match=r"Element|attribute"):
            check_junit(text.replace(before, after))


def test_names_that_xml_could_not_say_are_quoted(comparison_of, one_layer, check_junit):
    odd = open_side("candidate", one_layer(2, 'a<b>&"c".onnx'))
    text = outputs.junit(comparison_of("regression"), open_side("base", one_layer(1)), odd, "cpu-1t", WHEN)
    check_junit(text)
    assert next(ET.fromstring(text).iter("testcase")).attrib["classname"] == str(odd.path)


def test_markdown_is_a_table(comparison_of, sides):
    text = outputs.markdown(comparison_of("regression"), *sides, "cpu-1t")
    assert text.startswith("### Latency of `")
    assert "| p50 | ×1.100 | ×1.080 to ×1.120 | 1.0% | ×1.050 | regression |" in text
    assert "| p90 | ×1.100 | ×1.080 to ×1.120 | 1.0% | - |  |" in text
    assert "| bytes | ×1.000 | exact | - | ×1.050 | pass |" in text
    assert text.endswith("- note: a note\n")
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_below_the_table_is_what_else_to_know(comparison_of):
    assert outputs.details(comparison_of("regression")) == [
        "p50: base 1 ms, candidate 1.1 ms, here and today",
        "p90: base 1.2 ms, candidate 1.3 ms, here and today; 99 % sure: at most 1.25 ms and 1.35 ms",
        "grown: MatMul: 0.500 ms a call, now 0.600",
        "moved: layer.1 (MatMul): QNNExecutionProvider, now CPUExecutionProvider",
        "note: a note",
    ]
    few = comparison_of("pass", p90_bound_ms=(None, 1.0))
    assert outputs.details(few)[1].endswith("; too few calls to be sure")


@pytest.mark.parametrize("outcome", SUMMARIES)
def test_the_document_is_as_its_schema_says(outcome, comparison_of, sides, check_document):
    found = json.loads(json.dumps(finite(outputs.document(comparison_of(outcome), *sides, "cpu-1t"))))
    check_document(found)
    assert found["outcome"] == outcome
    assert [each["quantity"] for each in found["rows"]] == ["p50", "p90", "bytes"]
    assert found["sides"]["candidate"]["bytes"] == sides[1].bytes
    assert "times_ms" not in found
    assert "measured" not in found
    with pytest.raises(Exception, match="'speed' was unexpected"):
        check_document({**found, "speed": 1})


def test_the_document_of_packages_has_their_accuracy(comparison_of, make_package, check_document):
    one, other = (open_side(name, make_package(name).folder) for name in ("base", "candidate"))
    known = [
        replace(side, package=replace(side.package, accuracy=accuracy))
        for side, accuracy in ((one, {"cosine": 0.9, "mrr@10": 0.5}), (other, {"cosine": 0.8}))
    ]
    found = json.loads(json.dumps(outputs.document(comparison_of("pass"), *known, "cpu-1t")))
    check_document(found)
    assert found["accuracy"] == {"cosine": [0.9, 0.8]}


def test_a_line_of_history_has_ratios_and_no_times(comparison_of, sides):
    line = outputs.history(comparison_of("pass"), *sides, "cpu-1t", WHEN)
    assert "\n" not in line
    found = json.loads(line)
    assert found["ratios"] == {"p50": 1.1, "p90": 1.1, "bytes": 1.0}
    assert (found["outcome"], len(found["host"])) == ("pass", 16)
    assert set(found["versions"]) == {"edgelr", "onnxruntime", "python"}
    assert not any("ms" in key for key in found)
