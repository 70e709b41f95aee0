"""Sessions on real ONNX files: the right provider, the right options, and every way a file can be wrong."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.device.session import open_session, session_options
from edgelr.errors import DamagedArtifactError, MissingRequirementError, UnsupportedModelError, UsageError
from edgelr.typed import typed

CPU_1T = load_devices()["cpu-1t"]


def device(**changes: object) -> Device:
    return typed(Device, {**asdict(CPU_1T), **changes})


def model(operator: str = "Relu", domain: str = "", opset: int = 20, ir: int = 10) -> onnx.ModelProto:
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def write(folder: Path, content: onnx.ModelProto | bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def test_options_say_what_the_profile_says():
    options = session_options(device(threads=4), host_threads=3)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert options.use_deterministic_compute
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_no_threads_are_all_cores():
    assert session_options(device(threads=0), host_threads=6).intra_op_num_threads == 6


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("disabled", "ORT_DISABLE_ALL"),
        ("basic", "ORT_ENABLE_BASIC"),
        ("extended", "ORT_ENABLE_EXTENDED"),
        ("all", "ORT_ENABLE_ALL"),
    ],
)
def test_every_optimization_level(level, expected):
    options = session_options(device(session={"graph_optimization_level": level}))
    assert options.graph_optimization_level.name == expected


def test_measured_entries_win_over_the_profile():
    entries = {
        "session.intra_op.allow_spinning": "1",
        "optimization.disable_specified_optimizers": "GeluFusion",
    }
    options = session_options(CPU_1T, entries=entries)
    assert {name: options.get_session_config_entry(name) for name in entries} == entries


@pytest.mark.parametrize(("fallback", "entry"), [("forbid", "1"), ("allow", "0")])
def test_entries_cannot_bring_a_forbidden_fallback_back(fallback, entry):
    name = "session.disable_cpu_ep_fallback"
    options = session_options(
        device(provider="XnnpackExecutionProvider", fallback=fallback), entries={name: "0"}
    )
    assert options.get_session_config_entry(name) == entry


@pytest.mark.parametrize("entries", [{"": "1"}, {"k" * 5000: "1"}, {"a.b": "v" * 10_000}])
def test_an_entry_that_the_runtime_refuses(entries):
    with pytest.raises(UsageError, match=r"device 'cpu-1t': session entry "):
        session_options(CPU_1T, entries=entries)


@pytest.mark.parametrize("name", ["cpu-1t", "cpu-4t", "cpu-all"])
def test_a_good_model_runs_on_every_packaged_profile(tmp_path, name):
    session = open_session(write(tmp_path, model()), load_devices()[name])
    assert session.get_providers()[0] == "CPUExecutionProvider"
    x = np.array([[-1, 0, 1, 2]], dtype=np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], np.maximum(x, 0))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "No graph was found in the protobuf."),
        (b"garbage!" * 20, "Protobuf parsing failed."),
        (model().SerializeToString()[:40], "Protobuf parsing failed."),
    ],
)
def test_a_broken_file_is_damaged(tmp_path, capfd, content, reason):
    path = write(tmp_path, content)
    with pytest.raises(DamagedArtifactError) as caught:
        open_session(path, CPU_1T)
    assert caught.value.exit_code == 12
    assert str(caught.value) == f"{path} is not a valid ONNX model: {reason}\n  build the package again"
    assert capfd.readouterr() == ("", "")


def test_an_invalid_graph_is_damaged(tmp_path):
    broken = model()
    broken.graph.node[0].input[0] = "nothing"
    with pytest.raises(DamagedArtifactError, match="Node input 'nothing' is not a graph input"):
        open_session(write(tmp_path, broken), CPU_1T)
    with pytest.raises(DamagedArtifactError, match="has input size 1 not in range"):
        open_session(write(tmp_path, model("Conv")), CPU_1T)


@pytest.mark.parametrize("location", ["../weights.bin", "gone.bin", "/etc/hostname"])
def test_weights_outside_the_folder_or_missing_are_damaged(tmp_path, location):
    odd = model("Add")
    odd.graph.node[0].input.append("w")
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0] * 4)
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    odd.graph.initializer.append(weight)
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    folder = tmp_path / "package"
    folder.mkdir()
    with pytest.raises(DamagedArtifactError, match="External data path"):
        open_session(write(folder, odd), CPU_1T)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(DamagedArtifactError, match=r"gone\.onnx does not exist"):
        open_session(tmp_path / "gone.onnx", CPU_1T)
    with pytest.raises(DamagedArtifactError, match="does not exist"):
        open_session(tmp_path, CPU_1T)


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (model("Nope"), "No Op registered for Nope"),
        (model("Nope", domain="my.domain"), "my.domain:Nope(-1) is not a registered function/op"),
        (model(opset=99), "99 is under development"),
        (model(ir=99), "Unsupported model IR version: 99"),
    ],
)
def test_what_the_runtime_does_not_have_is_unsupported(tmp_path, odd, reason):
    with pytest.raises(UnsupportedModelError) as caught:
        open_session(write(tmp_path, odd), CPU_1T)
    assert caught.value.exit_code == 4
    assert reason in str(caught.value)
    assert "/onnxruntime_src/" not in str(caught.value)


def test_a_provider_that_is_not_installed_never_becomes_the_cpu(tmp_path, capfd):
    path = write(tmp_path, model())
    for fallback in ("forbid", "allow"):
        with pytest.raises(MissingRequirementError, match="OpenVINOExecutionProvider is not in this"):
            open_session(path, device(provider="OpenVINOExecutionProvider", fallback=fallback))
    assert capfd.readouterr() == ("", "")


def test_a_provider_that_cannot_take_a_node_is_an_error_unless_allowed(tmp_path):
    # Azure is in the standard wheel and takes no node of this graph: it must not pass for the CPU.
    azure = "AzureExecutionProvider"
    assert azure in onnxruntime.get_available_providers()
    path = write(tmp_path, model())
    with pytest.raises(UnsupportedModelError, match="AzureExecutionProvider cannot take every node"):
        open_session(path, device(provider=azure))
    allowed = open_session(path, device(provider=azure, fallback="allow"))
    assert allowed.get_providers() == [azure, "CPUExecutionProvider"]


def test_a_provider_that_is_installed_and_does_not_start_is_no_cpu(tmp_path, monkeypatch):
    # As ONNX Runtime does where a GPU's driver is missing: no error, and a session on the CPU.
    silent = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: silent)
    with pytest.raises(MissingRequirementError, match="did not start, the session is on CPUExec") as caught:
        open_session(write(tmp_path, model()), device(provider="AzureExecutionProvider"))
    assert (caught.value.exit_code, caught.value.hint) == (3, "is its driver installed?")


def test_what_a_gpus_provider_is_given(tmp_path, monkeypatch):
    """There was no GPU: what ONNX Runtime is asked for is all that can be looked at."""
    asked = {}

    def note(path, options, *, providers, disable_fallback):
        entry = options.get_session_config_entry("session.disable_cpu_ep_fallback")
        asked.update(providers=providers, fallback=entry, disabled=disable_fallback)
        return SimpleNamespace(get_providers=lambda: [providers[0][0]])

    monkeypatch.setattr(onnxruntime, "InferenceSession", note)
    monkeypatch.setattr("edgelr.device.session.require", lambda _: None)
    path = write(tmp_path, model())
    for name, options in {"cuda": {}, "tensorrt": {"trt_fp16_enable": "1"}}.items():
        profile = load_devices()[name]
        open_session(path, profile)
        assert asked == {
            "providers": [(profile.provider, options), "CPUExecutionProvider"],
            "fallback": "0",
            "disabled": 1,
        }
    open_session(path, replace(profile, fallback="forbid"))
    assert asked["providers"] == [(profile.provider, options)]
    assert asked["fallback"] == "1", "a node on the CPU is an error"


def test_a_static_profile_runs_nothing(tmp_path):
    with pytest.raises(UsageError, match="analyzed only"):
        open_session(write(tmp_path, model()), device(evidence="static"))


def open_axis(folder: Path) -> Path:
    """y = x over an open axis, as a sum that needs no other size."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "tokens"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", values[:1], values[1:])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return write(folder, content)


def test_fixed_sizes_are_fixed_in_this_process_too(tmp_path: Path) -> None:
    sizes = ({"batch": 1, "tokens": 2}, {"batch": 1, "tokens": 4})
    graph = open_session(open_axis(tmp_path), device(shapes="fixed"), sizes=sizes)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(graph.run(None, {"x": x})[0], -x)
    (inner,) = graph._graphs.values()
    assert inner.get_inputs()[0].shape == [1, 4], "no axis is open where it runs"
    with pytest.raises(UnsupportedModelError, match="longer than the largest fixed size"):
        graph.run(None, {"x": np.zeros((1, 5), np.float32)})


def test_an_axis_of_unknown_size_cannot_be_fixed(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="open axis 'tokens', of which no fixed size is known"):
        open_session(open_axis(tmp_path), device(shapes="fixed"))
