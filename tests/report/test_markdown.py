"""report.md: the verdict first, every figure with its evidence."""

from dataclasses import replace
from typing import Any

import pytest

from edgelr.report.markdown import found_line, report_markdown, verdict_line
from edgelr.report.stage import report_document


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({}, ""),
        (
            {"dense_ms": 12.0, "planned_ms": 8.0, "speedup": 1.5},
            "Predicted from kernel times: 12 ms dense, 8 ms as planned, ×1.50.",
        ),
        (
            {"share": 0.62, "drop": 0.0481},
            "The smallest share of the parameters that holds: 0.620; the metric drops by 0.0481 there, "
            "untuned, on validation data.",
        ),
    ],
)
def test_what_was_found_for_a_budget_is_told(
    document: dict[str, Any], found: dict[str, float], line: str
) -> None:
    document["plan"]["found"] = found
    assert found_line(found) == line
    assert line in section(report_markdown(document), "Layers")


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0].strip()


def test_the_verdict_comes_first_and_in_one_line(document: dict[str, Any]) -> None:
    text = report_markdown(document)
    assert text.splitlines()[:3] == ["# tiny", "", verdict_line(document)]
    assert verdict_line(document) == (
        "**Failed**: 1 of 2 gates; 16.00 MB, 0.20 of dense-fp32, 0.80 of dense-int8; "
        "×2.00 against dense-fp32 on cpu-1t (1x128, p50, run); "
        "×1.25 against dense-int8 on cpu-1t (1x128, p50, run)."
    )


def test_sections_are_in_order(document: dict[str, Any]) -> None:
    titles = [line[3:] for line in report_markdown(document).splitlines() if line.startswith("## ")]
    assert titles == [
        *("Gates", "Size", "Devices", "Accuracy", "Latency", "Node placement"),
        *("Layers", "Stages", "Host", "Warnings"),
    ]


def test_a_failed_gate_stands_out(document: dict[str, Any]) -> None:
    gates = section(report_markdown(document), "Gates")
    assert "| mrr max_drop | 0.01 | 0.125 | **failed** |" in gates
    assert "| size_mb max | 20 | 16 | passed |" in gates


def test_variants_stand_side_by_side_with_their_intervals(document: dict[str, Any]) -> None:
    accuracy = section(report_markdown(document), "Accuracy").splitlines()
    assert accuracy[0] == "| metric | device | examples | dense-fp32 | candidate |"
    assert accuracy[2] == "| mrr | cpu-1t (run) | 500 | 0.6250 [0.6150, 0.6350] | 0.5000 [0.4900, 0.5100] |"


def test_every_time_has_its_evidence_and_every_baseline_its_ratio(document: dict[str, Any]) -> None:
    latency = section(report_markdown(document), "Latency").splitlines()
    assert latency[2] == (
        "| cpu-1t | 1x16 | 8.00 / 12.00 / 16.00 (run, 200) | 5.00 / 7.50 / 10.00 (run, 200) "
        "| 4.00 / 6.00 / 8.00 (run, 200) | ×2.00 (run) | ×1.25 (run) |"
    )
    assert "| cpu-1t | candidate | 100.00 (run) |" in latency


def test_speed_of_writing_has_a_table_only_where_it_was_measured(
    document: dict[str, Any], written: dict[str, Any]
) -> None:
    latency = section(report_markdown(written), "Latency")
    assert latency.split("\n\n")[2] == (
        "| device | shape | dense-fp32 | candidate |\n|---|---|---|---|\n"
        "| cpu-1t | 1x16 | 20.0 / 2.00 (run) | 40.0 / 1.00 (run) |\n"
        "| cpu-1t | 1x128 | 2.5 / 16.00 (run) | 5.0 / 8.00 (run) |"
    )
    (legend,) = [line for line in latency.splitlines() if "first" in line]
    assert legend == "Tokens written a second / ms until the first (evidence): medians."
    before = section(report_markdown(document), "Latency")
    assert [part for part in latency.split("\n\n") if part not in before.split("\n\n")] == [
        latency.split("\n\n")[2],
        legend,
    ]
    del written["latency"][0]["tokens_per_s"]
    assert "| cpu-1t | 1x16 | – / 2.00 (run) |" in report_markdown(written)


def test_a_device_that_was_run_but_not_timed_is_emulated(document: dict[str, Any]) -> None:
    placement = section(report_markdown(document), "Node placement")
    assert "| phone (emulated) | candidate | QNNExecutionProvider | 30 | 0.750 | 0.9900 | 2 |" in placement


def test_layers_stages_host_and_warnings(document: dict[str, Any]) -> None:
    text = report_markdown(document)
    assert "| `layer.0.query` | 8 × 8 | low-rank | 2 | 0.500 | 0.1250 | 3 |" in section(text, "Layers")
    assert "| `layer.0.<out>` | 8 × 8 | dense |  | 1.000 | 0.0000 | 9 |" in section(text, "Layers")
    assert "| load | 1.2 | reused | `0123456789ab` |" in section(text, "Stages")
    assert "| cpu | Example \\| 2 cores |" in section(text, "Host"), "a bar in a cell is escaped"
    assert "- the card names no license" in section(text, "Warnings")


def test_a_signature_is_shown_as_it_is(document: dict[str, Any]) -> None:
    note = "bleu by sacrebleu: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
    document["warnings"].append(note)
    assert f"- {note}" in section(report_markdown(document), "Warnings").splitlines()


def test_pictures_are_linked(document: dict[str, Any]) -> None:
    text = report_markdown(document)
    assert "](layers.svg)" in section(text, "Layers")
    assert "](latency.svg)" in section(text, "Latency")


def test_what_is_not_there_leaves_no_empty_section(document: dict[str, Any]) -> None:
    empty: dict[str, Any] = {
        "devices": [],
        "accuracy": [],
        "latency": [],
        "placement": [],
        "gates": [],
        "warnings": [],
        "ratios": [],
    }
    text = report_markdown({**document, **empty, "passed": True})
    assert "**Passed**: the recipe has no gates; 16.00 MB." in text
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["Size", "Layers", "Stages", "Host"]


def test_a_figure_that_is_missing_is_a_dash(document: dict[str, Any]) -> None:
    document["accuracy"][0] |= {"value": None, "ci95": [None, None]}
    assert "– [–, –]" in section(report_markdown(document), "Accuracy")


def test_what_costs_are_counted_by_is_told(document: dict[str, Any]) -> None:
    assert "| multiply-accumulates a token |" in report_markdown(document)
    document["plan"]["unit"] = "window and its transcript"
    assert "| multiply-accumulates a window and its transcript |" in report_markdown(document)


def test_a_variant_is_told_with_its_size_and_where_it_is_timed(findings: dict[str, Any]) -> None:
    verdict, packages = findings["verdict"], findings["packages"]
    rows = [replace(row, device="gpu", evidence="run") for row in verdict.latency if "128" in row.shape]
    rows = [replace(row, variant="half") if row.variant == "candidate" else row for row in rows]
    document = report_document(
        **{
            **findings,
            "packages": {**packages, "half": packages["candidate"]},
            "verdict": replace(verdict, latency=(*verdict.latency, *rows)),
        }
    )
    assert "0.80 of dense-int8, half 16.00 MB; ×2.00" in verdict_line(document)
    latency = section(report_markdown(document), "Latency").splitlines()
    assert latency[0].startswith("| device | shape | dense-fp32 | dense-int8 | candidate | half |")
    (line,) = [line for line in latency if line.startswith("| gpu | 1x128 |")]
    assert line.endswith("| – | 32.00 / 48.00 / 64.00 (run, 200) | ×2.00 (run, half) | ×1.25 (run, half) |")
    ratios = [row["variant"] for row in document["ratios"] if row.get("device") == "gpu"]
    assert ratios == ["half", "half"]
