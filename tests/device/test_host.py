"""This host, as it really is."""

import os
import platform

import onnxruntime
import pytest

from edgelr.device.host import (
    NVIDIA,
    availability,
    describe_host,
    host_fingerprint,
    host_state,
    require,
    threads_note,
    threads_used,
    usable_cores,
)
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.errors import MissingRequirementError
from edgelr.typed import typed


def device(**changes: object) -> Device:
    given = {"edgelr": 1, "name": "d", "title": "D", "provider": "CPUExecutionProvider", "evidence": "run"}
    return typed(Device, {**given, **changes})


def test_the_host_is_described():
    host = describe_host()
    assert set(host) == {"cpu", "cores", "memory_bytes", "system", "python", "onnxruntime"}
    assert host["cpu"]
    assert 1 <= host["cores"] <= os.cpu_count()
    assert host["memory_bytes"] > 2**26
    assert host["python"] == platform.python_version()
    assert host["onnxruntime"] == onnxruntime.__version__


def test_the_fingerprint_is_stable():
    assert host_fingerprint() == host_fingerprint()
    assert len(host_fingerprint()) == 16


def test_only_cores_that_may_be_used_count():
    if not hasattr(os, "sched_setaffinity"):  # macOS, Windows: every core may be used
        assert usable_cores() == os.cpu_count()
        return
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("threads", "cores", "used"), [(1, 2, 1), (4, 2, 2), (4, 8, 4), (0, 2, 2), (0, 8, 8)]
)
def test_threads_are_at_most_the_cores(threads, cores, used):
    assert threads_used(device(threads=threads), cores) == used


def test_too_many_threads_are_noted():
    assert threads_note(device(name="cpu-4t", threads=4), 2) == (
        "cpu-4t asks for 4 threads, this host has 2: timings are with 2"
    )
    assert threads_note(device(threads=4), 4) is None
    assert threads_note(device(threads=0), 2) is None
    assert threads_note(device(threads=1)) is None


def test_packaged_profiles_can_run_here():
    for profile in load_devices().values():
        if profile.name.startswith("cpu-"):
            assert availability(profile) == (True, "")
            require(profile)


def test_a_profile_that_cannot_run_here_says_the_command():
    for profile in load_devices().values():
        available, reason = availability(profile)
        assert available == (reason == "")
        if available or profile.evidence == "static":
            require(profile)
            continue
        with pytest.raises(MissingRequirementError) as caught:
            require(profile)
        assert caught.value.hint
        assert str(caught.value) == f"device '{profile.name}': {reason}".replace("; ", "\n  ", 1)


def test_a_provider_that_is_not_installed_names_the_command():
    missing = device(name="gpu", provider="OpenVINOExecutionProvider")
    assert "OpenVINOExecutionProvider" not in onnxruntime.get_available_providers()
    command = "pip uninstall -y onnxruntime && pip install onnxruntime-openvino"
    assert availability(missing) == (
        False,
        f"OpenVINOExecutionProvider is not in this ONNX Runtime; {command}",
    )
    with pytest.raises(MissingRequirementError) as caught:
        require(missing)
    assert caught.value.exit_code == 3
    assert str(caught.value) == (
        f"device 'gpu': OpenVINOExecutionProvider is not in this ONNX Runtime\n  {command}"
    )


OPENVINO = "OpenVINOExecutionProvider"


@pytest.mark.parametrize(
    ("asked", "found", "absent"),
    [
        ("GPU", ["CPU"], "no GPU here, only CPU"),
        ("NPU", ["CPU", "GPU"], "no NPU here, only CPU, GPU"),
        ("AUTO:GPU,CPU", ["CPU"], "no GPU here"),
        ("GPU.1", ["CPU", "GPU.0"], "no GPU.1 here"),
        ("GPU", ["CPU", "GPU.0", "GPU.1"], None),
        ("AUTO", ["CPU"], None),
        ("CPU", ["CPU"], None),
    ],
)
def test_openvinos_hardware_is_asked_for(
    asked: str, found: list[str], absent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [OPENVINO])
    monkeypatch.setattr(
        "onnxruntime.capi._pybind_state.get_available_openvino_device_ids", lambda: found, raising=False
    )
    profile = device(provider=OPENVINO, options={"device_type": asked})
    available, reason = availability(profile)
    assert available == (absent is None)
    assert (absent or "") in reason
    if absent is not None:
        with pytest.raises(MissingRequirementError, match="OpenVINO finds no"):
            require(profile)


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_gpu_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's build for GPUs lists its providers on any host."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(NVIDIA))
    monkeypatch.setattr("edgelr.device.host.count_gpus", lambda: 0)
    available, reason = availability(load_devices()[name])
    assert (available, reason.startswith("NVIDIA's driver is not here, or finds no GPU;")) == (False, True)
    with pytest.raises(MissingRequirementError, match=f"'{name}': NVIDIA's driver"):
        require(load_devices()[name])
    monkeypatch.setattr("edgelr.device.host.count_gpus", lambda: 1)
    assert availability(load_devices()[name]) == (True, "")


@pytest.mark.skipif(OPENVINO not in onnxruntime.get_available_providers(), reason="onnxruntime-openvino")
def test_openvino_really_tells() -> None:
    assert availability(load_devices()["openvino-cpu"]) == (True, "")


@pytest.mark.parametrize(
    ("provider", "hint"),
    [
        ("CudaExecutionProvider", "did you mean CUDAExecutionProvider?"),
        ("OpenVinExecutionProvider", "did you mean OpenVINOExecutionProvider?"),
        ("ZzzExecutionProvider", "ONNX Runtime knows "),
        ("NnapiExecutionProvider", "give the profile 'evidence: static' to analyze only"),
    ],
)
def test_a_misspelled_provider_names_the_nearest(provider, hint):
    with pytest.raises(MissingRequirementError) as caught:
        require(device(provider=provider))
    assert hint in str(caught.value)


def test_a_static_profile_needs_no_provider():
    static = device(provider="CoreMLExecutionProvider", evidence="static")
    require(static)
    assert availability(static) == (False, "graph analysis only, nothing is run (evidence: static)")


def test_what_the_host_does_now_is_said_as_far_as_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"scaling_governor": "performance", "temp": "45500", "cpuinfo": "cpu MHz\t\t: 2596.146"}
    monkeypatch.setattr("edgelr.device.host._read", lambda path: files.get(path.rsplit("/", 1)[1], ""))
    found = host_state()
    assert found["load_1min"] >= 0
    assert (found["governor"], found["temperature_c"]) == ("performance", 45.5)
    assert found["clock_mhz"] == 2596.146
    monkeypatch.setattr("edgelr.device.host._read", lambda path: "")
    assert set(host_state()) <= {"load_1min"}
