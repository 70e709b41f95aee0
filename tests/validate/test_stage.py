from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgelr.artifact_files import read_verdict
from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.prepared import missing
from edgelr.device.schema import Device
from edgelr.errors import StorageError, UsageError
from edgelr.progress import Progress
from edgelr.recipe.schema import Validation
from edgelr.validate.stage import validate
from edgelr.verdict import Verdict

Make = Callable[..., Package]
QUIET = Progress(quiet=True)


def settings(*gates: dict[str, object], tokens: tuple[int, ...] = (4, 16)) -> Validation:
    return Validation.model_validate({"tokens": tokens, "seconds": 0.2, "gates": gates})


@pytest.fixture(scope="module")
def variants(write_package: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    """In an order that is not the usual one."""
    folder = tmp_path_factory.mktemp("variants")
    return {
        "candidate": write_package(folder / "candidate", noise=0.3, precision="int8-dynamic"),
        "dense-int8": write_package(folder / "dense-int8", noise=0.01, precision="int8-dynamic"),
        "dense-fp32": write_package(folder / "dense-fp32"),
    }


@pytest.fixture(scope="module")
def verdict(variants: dict[str, Package], cpu: Device, tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    gates = (
        {"metric": "cosine", "min": 0.5},
        {"metric": "cosine", "max_drop": 0.0},
        {"size_mb": {"max": 1.0}},
        {"latency": "p90_ms", "device": "cpu-1t", "max_share_of": "dense-int8", "share": 1000.0},
    )
    return validate(variants, [cpu], settings(*gates), tmp_path_factory.mktemp("verdict"), QUIET)


def test_everything_is_measured_in_the_usual_order(verdict: Verdict) -> None:
    order = ["dense-fp32", "dense-int8", "candidate"]
    assert list(dict.fromkeys(row.variant for row in verdict.accuracy)) == order
    assert list(dict.fromkeys(row.variant for row in verdict.latency)) == order
    assert [row.variant for row in verdict.placement] == order
    assert list(verdict.sizes) == order
    assert [row.shape for row in verdict.latency[:2]] == ["1 x 4 tokens", "1 x 16 tokens"]


def test_what_was_done_on_a_device_is_told(
    verdict: Verdict, variants: dict[str, Package], tmp_path: Path
) -> None:
    (here,) = verdict.devices
    assert (here.device, here.evidence, here.scored, here.timed) == ("cpu-1t", "run", True, True)
    assert (here.placed, here.agreement) == ("recorded", None)
    phone = load_devices()["ios-coreml"]
    found = validate({"candidate": variants["candidate"]}, [phone], settings(), tmp_path / "v", QUIET)
    (there,) = found.devices
    assert (there.evidence, there.scored, there.timed, there.placed) == ("static", False, False, "rules")


def test_one_failed_gate_fails_the_verdict_and_raises_nothing(verdict: Verdict) -> None:
    assert [row.passed for row in verdict.gates] == [True, False, True, True]
    assert not verdict.passed


def test_the_file_says_what_the_verdict_says(verdict: Verdict) -> None:
    assert read_verdict(verdict.folder) == verdict


def test_notes_say_what_a_reader_should_know(verdict: Verdict) -> None:
    notes = "\n".join(verdict.notes)
    assert "dense-fp32 differs from torch by at most" in notes
    assert "candidate differs from torch" not in notes, (
        "the difference of a quantized graph is not the export's"
    )
    assert "cosine, candidate less dense-fp32: -" in notes
    assert "loading the model: dense-fp32 " in notes


def test_accuracy_is_the_same_twice(
    variants: dict[str, Package], cpu: Device, verdict: Verdict, tmp_path: Path
) -> None:
    again = validate(variants, [cpu], settings(), tmp_path / "again", QUIET)
    assert again.accuracy == verdict.accuracy
    assert again.passed, "there was no gate"


def test_a_package_is_not_changed(variants: dict[str, Package], cpu: Device, tmp_path: Path) -> None:
    package = variants["candidate"]
    before = {path: path.read_bytes() for path in package.folder.iterdir()}
    validate({"candidate": package}, [cpu], settings(), tmp_path / "verdict", QUIET)
    assert {path: path.read_bytes() for path in package.folder.iterdir()} == before


def test_alone_a_candidate_is_compared_with_the_stored_outputs(
    variants: dict[str, Package], cpu: Device, tmp_path: Path
) -> None:
    gates = ({"metric": "cosine", "max_drop": 0.5}, {"size_mb": {"max_share_of": "dense-fp32", "share": 0.5}})
    found = validate(
        {"candidate": variants["candidate"]}, [cpu], settings(*gates), tmp_path / "verdict", QUIET
    )
    (row,) = found.gates
    assert row.passed
    cosine = next(row.value for row in found.accuracy if row.metric == "cosine")
    assert row.value == pytest.approx(1 - cosine, abs=1e-9)
    assert found.notes[0] == (
        "not evaluated: package size <= 0.5 of dense-fp32: the package dense-fp32 was not given"
    )


# --- devices ----------------------------------------------------------------------------------------


def test_a_device_is_only_asked_for_what_it_can_prove(
    make_package: Make, cpu: Device, tmp_path: Path
) -> None:
    package = make_package()
    static = replace(cpu, name="phone", evidence="static")
    emulated = replace(cpu, name="npu", evidence="emulated")
    found = validate({"candidate": package}, [static, emulated], settings(), tmp_path / "verdict", QUIET)
    assert {row.device for row in found.accuracy} == {row.device for row in found.placement} == {"npu"}
    assert found.fallbacks == (), "there are no rules of the CPU to analyze by"
    assert found.latency == ()
    assert (
        "phone has static evidence: no rules of CPUExecutionProvider are known, nothing was run"
        in found.notes
    )
    assert "npu is emulated: its results are right, times would mean nothing" in found.notes


def test_a_phone_is_analyzed_and_gated(make_package: Make, tmp_path: Path) -> None:
    phone = load_devices()["ios-coreml"]
    gates = (
        {"placement": {"provider": "CoreML", "min_share": 0.95, "max_partitions": 1}},
        {"placement": {"provider": "QNN", "min_share": 0.5}},
    )
    found = validate({"candidate": make_package()}, [phone], settings(*gates), tmp_path / "verdict", QUIET)
    assert {row.provider for row in found.placement} == {"CPUExecutionProvider", "CoreMLExecutionProvider"}
    assert {row.device for row in found.fallbacks} == {"ios-coreml"}
    share, parts = found.gates
    assert (share.gate, share.value, share.passed) == (
        "share of work on CoreML >= 0.95 (ios-coreml)",
        1.0,
        True,
    )
    assert (parts.gate, parts.limit) == ("partitions of CoreML <= 1 (ios-coreml)", 1)
    assert found.notes[0] == (
        "not evaluated: share of work on QNN >= 0.5: no device that was measured gives QNN a node"
    )


def test_an_emulated_processor_is_held_against_this_one(make_package: Make, tmp_path: Path) -> None:
    device = load_devices()["raspberry-pi-4"]
    if (lacking := missing(device)) is not None:
        pytest.skip(lacking.command)
    found = validate({"candidate": make_package()}, [device], settings(), tmp_path / "verdict", QUIET)
    assert (found.accuracy, found.latency) == ((), ())
    (row,) = found.placement
    assert (row.provider, row.nodes, row.evidence) == ("CPUExecutionProvider", 12, "emulated")
    assert found.notes[0].startswith("raspberry-pi-4 agrees with cpu-1t on 4 inputs of 2 lengths")
    assert found.notes[1] == "raspberry-pi-4 is emulated: neither timed nor scored, but held against the CPU"


def test_more_threads_than_cores_are_noted(make_package: Make, cpu: Device, tmp_path: Path) -> None:
    many = replace(cpu, name="many", threads=1000)
    found = validate(
        {"candidate": make_package()}, [many], settings(tokens=(4,)), tmp_path / "verdict", QUIET
    )
    assert any(note.startswith("many asks for 1000 threads, this host has ") for note in found.notes)
    assert found.latency[0].threads < 1000


def test_a_device_that_does_not_accept_a_precision(
    variants: dict[str, Package], cpu: Device, tmp_path: Path
) -> None:
    narrow = replace(cpu, accepts=("int8-dynamic",))
    found = validate(variants, [narrow], settings(), tmp_path / "verdict", QUIET)
    assert {row.variant for row in found.latency} == {"dense-int8", "candidate"}
    assert "not measured: dense-fp32: cpu-1t accepts int8-dynamic only" in found.notes
    refusing = replace(cpu, accepts=("fp32",))
    with pytest.raises(UsageError, match="the candidate is int8-dynamic, cpu-1t accepts fp32"):
        validate(variants, [refusing], settings(), tmp_path / "verdict", QUIET)


def test_no_device_is_measured_when_another_one_refuses(
    variants: dict[str, Package], cpu: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    monkeypatch.setattr(
        "edgelr.validate.stage._measure", lambda taken, *_: measured.append(taken.device.name)
    )
    npu = replace(cpu, name="npu", accepts=("a16w8",))
    with pytest.raises(UsageError, match="npu accepts a16w8"):
        validate(variants, [cpu, npu], settings(), tmp_path / "verdict", QUIET)
    assert measured == []


# --- faults -----------------------------------------------------------------------------------------


def test_lengths_the_package_would_cut_are_left_out(make_package: Make, cpu: Device, tmp_path: Path) -> None:
    package = make_package()
    found = validate({"candidate": package}, [cpu], settings(tokens=(4, 64)), tmp_path / "verdict", QUIET)
    assert [row.shape for row in found.latency] == ["1 x 4 tokens"]
    assert "not timed: 64 tokens; the package cuts at 32" in found.notes
    with pytest.raises(UsageError, match=r"validate\.tokens: 64, 128 all exceed the package's 32 tokens"):
        validate({"candidate": package}, [cpu], settings(tokens=(64, 128)), tmp_path / "verdict", QUIET)


def test_a_folder_that_cannot_be_made_is_named(make_package: Make, cpu: Device, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    static = replace(cpu, evidence="static")
    with pytest.raises(StorageError, match="a file is in the place of a folder"):
        validate({"candidate": make_package()}, [static], settings(), tmp_path / "file" / "verdict", QUIET)


def test_a_layer_with_a_precision_that_the_device_does_not_take(
    make_package: Callable[..., Package], reseal: Callable[..., Package], cpu: Device, tmp_path: Path
) -> None:
    candidate = make_package()
    (candidate.folder / "quantization.json").write_text('{"layers": [{"scheme": "fp32"}]}', encoding="utf-8")
    mixed = reseal(candidate.folder, precision="a16w8")
    npu = replace(cpu, accepts=("a16w8",))
    with pytest.raises(UsageError, match="the candidate is fp32, cpu-1t accepts a16w8"):
        validate({"candidate": mixed}, (npu,), Validation(seconds=0.1), tmp_path, Progress(quiet=True))


# --- variants ---------------------------------------------------------------------------------------


def test_each_device_is_measured_with_its_own_package(
    variants: dict[str, Package], make_package: Make, cpu: Device, tmp_path: Path
) -> None:
    phone = replace(load_devices()["ios-coreml"], accepts=("a16w8",))
    gates = ({"metric": "cosine", "min": 0.5}, {"placement": {"provider": "CoreML", "min_share": 0.9}})
    packages = {**variants, "npu": make_package("npu", precision="a16w8", noise=0.1)}
    found = validate(packages, [cpu, phone], settings(*gates, tokens=(4,)), tmp_path / "verdict", QUIET)
    assert [(row.device, row.variant) for row in found.devices] == [
        ("cpu-1t", "candidate"),
        ("ios-coreml", "npu"),
    ]
    assert {row.variant for row in found.placement if row.device == "ios-coreml"} == {"npu"}
    assert {row.variant for row in found.placement if row.device == "cpu-1t"} == set(variants)
    assert {row.variant for row in found.latency} == set(variants), (
        "no time is spent on it where none is needed"
    )
    assert {row.variant for row in found.accuracy} == set(packages)
    assert [(row.gate, row.passed) for row in found.gates] == [
        ("cosine >= 0.5 (cpu-1t)", True),
        ("cosine >= 0.5 (cpu-1t, npu)", True),
        ("share of work on CoreML >= 0.9 (ios-coreml, npu)", True),
    ]
    assert list(found.sizes)[-1] == "npu"
    assert "npu is scored here, as its own devices score nothing (cpu-1t)" in found.notes
    assert any(note.startswith("cosine, npu less dense-fp32: -") for note in found.notes)
