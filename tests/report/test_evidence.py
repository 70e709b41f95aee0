"""No figure of a device without its evidence."""

from typing import Any

from edgelr.report.evidence import with_evidence

DEVICES = [{"device": "cpu-1t", "evidence": "run"}, {"device": "ios-coreml", "evidence": "static"}]


def test_every_device_that_is_named_has_its_word() -> None:
    document: dict[str, Any] = {
        "devices": DEVICES,
        "gates": [{"gate": "mrr@10 >= 0.5 (cpu-1t)"}, {"gate": "share of work >= 0.9 (ios-coreml)"}],
        "accuracy": [{"device": "cpu-1t", "value": 1.0}],
        "warnings": ["mrr@10: -0.1 (cpu-1t, paired)", "p50 (phone, 16 tokens)", "nothing (at all)"],
    }
    told = with_evidence(document)
    assert [row["gate"] for row in told["gates"]] == [
        "mrr@10 >= 0.5 (cpu-1t, run)",
        "share of work >= 0.9 (ios-coreml, static)",
    ]
    assert told["accuracy"] == [{"device": "cpu-1t", "value": 1.0, "evidence": "run"}]
    assert told["warnings"] == ["mrr@10: -0.1 (cpu-1t, run, paired)", *document["warnings"][1:]]
    assert "evidence" not in document["accuracy"][0], "the input is not changed"
