from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError, UsageError
from edgelr.kinds.sentence_embedding import timed_inputs
from edgelr.progress import Progress
from edgelr.runtime.package import model_path
from edgelr.timing.rounds import ROUNDS, Case, measure_rounds, package_case

Make = Callable[..., Package]
QUIET = Progress(quiet=True)


def test_a_package_is_a_case(make_package: Make, cpu: Device) -> None:
    package = make_package()
    (package.folder / "session.json").write_text('{"cpu-1t": {"session.disable_prepacking": "1"}}')
    case = package_case(package, cpu, tokens=6, seconds=0.5, name="dense")
    assert case == Case(
        name="dense",
        opens={"model": str(model_path(package)), "entries": {"session.disable_prepacking": "1"}},
        inputs=timed_inputs(package, 6),
        seconds=0.5,
    )


def test_every_case_is_timed_in_every_round(make_package: Make, cpu: Device) -> None:
    package = make_package()
    cases = [
        package_case(package, cpu, tokens=tokens, seconds=seconds, name=f"{tokens}")
        for tokens, seconds in ((4, 0.2), (16, 1e-6))
    ]
    times_ms = measure_rounds(cases, cpu, QUIET, label="two lengths")
    assert list(times_ms) == ["4", "16"]
    assert len(times_ms["4"]) > len(times_ms["16"]) == ROUNDS, "at least one call a round"
    assert min(times_ms["4"]) > 0


def test_what_is_timed_is_named_in_errors(tmp_path: Path, cpu: Device) -> None:
    case = Case(name="lost", opens={"model": str(tmp_path / "lost.onnx")}, inputs={}, seconds=0.01)
    with pytest.raises(DamagedArtifactError, match=r"kernels on cpu-1t: .*lost\.onnx does not exist"):
        measure_rounds([case], cpu, QUIET, label="kernels")


def test_nothing_is_timed_on_a_device_that_is_only_analyzed(make_package: Make, cpu: Device) -> None:
    static = replace(cpu, evidence="static")
    case = package_case(make_package(), static, tokens=8, seconds=0.01, name="analyzed")
    with pytest.raises(UsageError, match="analyzed only"):
        measure_rounds([case], static, QUIET, label="analyzed")
