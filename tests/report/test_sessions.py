from edgelr.report.sessions import sessions_markdown


def test_default_and_tuned_are_side_by_side() -> None:
    row = {
        "variant": "candidate",
        "device": "cpu-1t",
        "shape": "1 x 16 tokens",
        "entries": {"optimization.disable_specified_optimizers": "a;b"},
        "default_ms": 3.0,
        "tuned_ms": 2.0,
    }
    last = sessions_markdown([row]).splitlines()[-1]
    assert last.startswith(
        "| cpu-1t | candidate | 1 x 16 tokens | `optimization.disable_specified_optimizers=a;b`"
    )
    assert last.endswith(" | 3.00 | 2.00 | ×1.50 |")


def test_what_gained_nothing_is_said_and_what_was_not_measured_is_not() -> None:
    row = {"variant": "dense-int8", "device": "cpu-1t", "shape": "1 x 16 tokens", "entries": {}}
    last = sessions_markdown([{**row, "default_ms": 3.0, "tuned_ms": 3.0}]).splitlines()[-1]
    assert last.endswith(" | none is faster | 3.00 | 3.00 | ×1.00 |")
    assert sessions_markdown([]) == ""
