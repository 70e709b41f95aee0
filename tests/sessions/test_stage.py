from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgelr.artifact_files import read_sessions
from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.progress import Progress
from edgelr.runtime.package import model_path, session_entries
from edgelr.sessions import stage
from edgelr.sessions.search import REWRITES, Choice, Times, entries_of

QUIET = Progress(quiet=True)
Make = Callable[..., Package]


def test_every_rewrite_can_be_switched_off(make_package: Make, cpu: Device) -> None:
    """ONNX Runtime knows them all, or it would say so."""
    open_session(model_path(make_package()), cpu, entries=entries_of(REWRITES))


def test_a_tiny_graph_is_measured_at_every_length(make_package: Make, cpu: Device, tmp_path: Path) -> None:
    packages = {"dense-fp32": make_package(), "candidate": make_package("other")}
    found = stage.tune_sessions(packages, [cpu], [4, 8], 0.05, tmp_path / "sessions", QUIET)
    assert read_sessions(tmp_path / "sessions") == found
    shapes = ["1 x 4 tokens", "1 x 8 tokens"]
    assert [row.shape for row in found.rows] == shapes * len(packages), "also where nothing is faster"
    for row in found.rows:
        assert row.entries or row.default_ms == row.tuned_ms > 0


@pytest.fixture
def slow_fusion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which one rewrite costs a third of the time."""

    def measure(
        package: Package, device: Device, choices: Sequence[Choice], lengths: Sequence[int], *_: object
    ) -> Times:
        assert package.session == {}, "settings of an earlier build are no part of it"
        times = {choice: 2.0 if "SkipLayerNormFusion" in choice else 3.0 for choice in choices}
        return {choice: [time] * len(lengths) for choice, time in times.items()}

    monkeypatch.setattr(stage, "_measure", measure)


@pytest.mark.usefixtures("slow_fusion")
def test_the_winner_is_the_packages_setting_on_that_device_only(
    make_package: Make, cpu: Device, tmp_path: Path
) -> None:
    package = make_package()
    static = replace(cpu, name="phone", evidence="static")
    narrow = replace(cpu, name="narrow", accepts=("int8-dynamic",))
    found = stage.tune_sessions({"candidate": package}, [cpu, static, narrow], [4, 8], 1.0, tmp_path, QUIET)
    assert [(row.device, row.shape, row.default_ms, row.tuned_ms) for row in found.rows] == [
        ("cpu-1t", "1 x 4 tokens", 3.0, 2.0),
        ("cpu-1t", "1 x 8 tokens", 3.0, 2.0),
    ]
    tuned = replace(package, session=found.of("candidate"))
    assert session_entries(tuned, "cpu-1t") == entries_of(("SkipLayerNormFusion",))
    assert session_entries(tuned, "phone") == {}
    assert found.of("dense-fp32") == {}
