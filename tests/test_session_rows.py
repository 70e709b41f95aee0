from pathlib import Path

from edgelr.session_rows import SessionRow, Sessions


def test_where_nothing_is_faster_there_is_no_setting() -> None:
    own = SessionRow(
        variant="candidate", device="cpu-1t", shape="1", entries={}, default_ms=2.0, tuned_ms=2.0
    )
    assert Sessions(folder=Path("never-opened"), rows=(own,)).of("candidate") == {}


def row(variant: str, device: str, shape: str) -> SessionRow:
    return SessionRow(
        variant=variant, device=device, shape=shape, entries={device: variant}, default_ms=2.0, tuned_ms=1.0
    )


def test_settings_are_of_a_variant_and_a_device() -> None:
    measured = [("candidate", "cpu-1t", "1"), ("candidate", "cpu-1t", "2"), ("dense-fp32", "cpu-4t", "1")]
    rows = tuple(row(*each) for each in measured)
    sessions = Sessions(folder=Path("never-opened"), rows=rows)
    assert sessions.of("candidate") == {"cpu-1t": {"cpu-1t": "candidate"}}
    assert sessions.of("dense-fp32") == {"cpu-4t": {"cpu-4t": "dense-fp32"}}
    assert sessions.of("dense-int8") == {}
