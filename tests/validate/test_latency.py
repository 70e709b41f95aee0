import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.progress import Progress
from edgelr.timing.lengths import shape_text
from edgelr.validate.latency import LEAST_ROUNDS, measure_latency

Make = Callable[..., Package]
QUIET = Progress(quiet=True)


def test_every_variant_is_timed_at_every_length(make_package: Make, cpu: Device) -> None:
    packages = {"dense-fp32": make_package("dense"), "candidate": make_package("candidate", noise=0.1)}
    rows, notes = measure_latency(packages, cpu, QUIET, lengths=[4, 16], seconds=0.4)
    assert [(row.variant, row.shape) for row in rows] == [
        ("dense-fp32", "1 x 4 tokens"),
        ("dense-fp32", "1 x 16 tokens"),
        ("candidate", "1 x 4 tokens"),
        ("candidate", "1 x 16 tokens"),
    ]
    for row in rows:
        assert (row.device, row.evidence, row.threads) == ("cpu-1t", "run", 1)
        assert 0 < row.p50_ms <= row.p90_ms <= row.p99_ms
        assert row.runs >= LEAST_ROUNDS
        assert row.peak_bytes > 2**20
    assert notes[0].startswith("loading the model: dense-fp32 ")


def test_of_translations_the_first_token_and_tokens_a_second_are_measured(
    dense_translator: Package, make_package: Make, cpu: Device
) -> None:
    rows, _ = measure_latency({"candidate": dense_translator}, cpu, QUIET, lengths=[8, 32], seconds=0.6)
    for row, tokens in zip(rows, (8, 32), strict=True):
        assert row.shape == f"1 x {tokens} tokens"
        assert row.tokens_per_s == pytest.approx(tokens / row.p50_ms * 1e3)
        assert row.first_token_ms is not None
        assert 0 < row.first_token_ms < row.p50_ms
    (row,), _ = measure_latency({"candidate": make_package()}, cpu, QUIET, lengths=[8], seconds=0.1)
    assert (row.tokens_per_s, row.first_token_ms) == (None, None)


def test_a_time_budget_of_almost_nothing_still_measures(make_package: Make, cpu: Device) -> None:
    rows, notes = measure_latency({"candidate": make_package()}, cpu, QUIET, lengths=[4], seconds=1e-6)
    assert rows[0].runs >= LEAST_ROUNDS
    assert notes[1] == (
        "times had not settled after warm-up: candidate at 1 x 4 tokens (cpu-1t); raise validate.seconds"
    )


def test_settings_of_the_package_reach_the_worker(make_package: Make, cpu: Device) -> None:
    package = make_package()
    (package.folder / "session.json").write_text(json.dumps({"cpu-1t": {"ep.stop_context": "1"}}))
    with pytest.raises(DamagedArtifactError, match=r"session\.json sets 'ep\.stop_context'"):
        measure_latency({"candidate": package}, cpu, QUIET, lengths=[4], seconds=0.01)
    (package.folder / "session.json").write_text(json.dumps({"cpu-1t": {"session.disable_prepacking": "1"}}))
    rows, _ = measure_latency({"candidate": package}, cpu, QUIET, lengths=[4], seconds=0.01)
    assert len(rows) == 1


def test_a_variant_that_cannot_be_opened_is_named(make_package: Make, cpu: Device) -> None:
    packages = {"dense-fp32": make_package("dense"), "candidate": make_package("candidate")}
    (packages["candidate"].folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(DamagedArtifactError, match=r"candidate on cpu-1t: .*model\.onnx"):
        measure_latency(packages, cpu, QUIET, lengths=[4], seconds=0.01)


def test_a_worker_that_dies_is_named(
    make_package: Make, cpu: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A fault inside ONNX Runtime cannot be ordered: a worker in the place of the real one ends itself.
    trap = tmp_path / "trap" / "edgelr" / "timing"
    trap.mkdir(parents=True)
    for folder in (trap, trap.parent):
        (folder / "__init__.py").write_text("")
    (trap / "worker.py").write_text("import os, sys; sys.stdin.readline(); os.abort()")
    monkeypatch.syspath_prepend(tmp_path / "trap")
    with pytest.raises(
        UnsupportedModelError, match=r"candidate on cpu-1t: the measuring process ended with .*SIGABRT"
    ):
        measure_latency({"candidate": make_package()}, cpu, QUIET, lengths=[4], seconds=0.01)


def test_an_unknown_task_is_named(make_package: Make, cpu: Device) -> None:
    package = replace(make_package(), task="summary")
    with pytest.raises(UnsupportedModelError, match="the task 'summary' is unknown"):
        measure_latency({"candidate": package}, cpu, QUIET, lengths=[4], seconds=0.01)


def test_a_shape_is_said_in_words() -> None:
    assert shape_text(128) == "1 x 128 tokens"
