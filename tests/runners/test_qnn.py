"""The simulator of Qualcomm's NPU, where onnxruntime-qnn is installed."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.prepared import missing
from edgelr.device.session import open_session, session_options
from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.quantize.whole import quantize_whole
from edgelr.runners.qnn import CHIPS, PROVIDER, chip_name, write_context
from edgelr.runtime.audio import write_flac
from edgelr.runtime.package import model_path

NPU = load_devices()["qnn-htp-emulator"]
SIZES = ({"batch": 1, "tokens": 8},)
pytestmark = pytest.mark.skipif(missing(NPU) is not None, reason="pip install onnxruntime-qnn")


@pytest.fixture
def wide(make_package: Callable[..., Package], tmp_path: Path) -> Path:
    """The tiny graph, written plainly and quantized whole."""
    from edgelr.export.plain import write_plainly

    proto = onnx.load(model_path(make_package()))
    for number, node in enumerate(proto.graph.node):
        node.name = f"node {number}"
    write_plainly(proto)
    onnx.save(proto, tmp_path / "plain.onnx")
    draw = np.random.default_rng(0)
    feeds = [
        {"input_ids": draw.integers(4, 40, (1, size)), "attention_mask": np.ones((1, size), np.int64)}
        for size in (3, 5, 8, 8)
    ]
    quantize_whole(tmp_path / "plain.onnx", tmp_path / "wide.onnx", feeds, "minmax")
    return tmp_path / "wide.onnx"


def test_every_node_is_on_the_npu_and_it_agrees_with_the_cpu(wide: Path) -> None:
    graph = open_session(wide, NPU, sizes=SIZES)
    assert {part.ep_name for part in graph.get_provider_graph_assignment_info()} == {PROVIDER}
    feeds = {
        "input_ids": np.array([[5, 9, 11], [6, 7, 0]]),
        "attention_mask": np.array([[1, 1, 1], [1, 1, 0]]),
    }
    (found,) = graph.run(None, feeds)
    (right,) = open_session(wide, load_devices()["cpu-1t"]).run(None, feeds)
    cosines = (found * right).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(right, axis=1)
    assert cosines.min() > 0.999


def test_a_product_with_a_constant_matrix_is_fully_connected(wide: Path, tmp_path: Path) -> None:
    """Which is faster there than MatMul; the provider writes it so itself, and graphs need no other form."""
    dumped = {"dump_json_qnn_graph": "1", "json_qnn_graph_dir": str(tmp_path)}
    open_session(wide, replace(NPU, options={**NPU.options, **dumped}), sizes=SIZES)
    (told,) = (each for each in tmp_path.glob("*.json") if not each.stem.endswith("tensor_log"))
    kinds = {node["type"] for node in json.loads(told.read_text())["graph"]["nodes"].values()}
    assert "FullyConnected" in kinds
    assert "MatMul" not in kinds


def test_a_node_that_falls_back_is_named_and_refused(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in ("x", "y")]
    nodes = [helper.make_node("Relu", ["x"], ["r"], "kept"), helper.make_node("Sinh", ["r"], ["y"], "odd")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(UnsupportedModelError, match="Sinh odd fell back to the CPU, which"):
        open_session(tmp_path / "odd.onnx", NPU)
    allowed = open_session(tmp_path / "odd.onnx", replace(NPU, fallback="allow"))
    assert {part.ep_name for part in allowed.get_provider_graph_assignment_info()} >= {"CPUExecutionProvider"}


@pytest.mark.parametrize(("options", "chip"), [({"soc_model": "SM9999"}, "SM9999"), ({}, "")])
def test_a_chip_that_is_unknown_is_not_taken_for_another(
    wide: Path, options: dict[str, str], chip: str
) -> None:
    odd = replace(NPU, options=options)
    with pytest.raises(UsageError, match=f"knows no chip '{chip}'"):
        open_session(wide, odd, sizes=SIZES)


def test_a_number_that_is_no_chips_is_refused(wide: Path) -> None:
    odd = replace(NPU, options={"soc_model": "9999"})
    with pytest.raises(UnsupportedModelError, match="fell back to the CPU"):
        open_session(wide, odd, sizes=SIZES)


def test_every_profile_is_of_a_known_chip() -> None:
    chips = [each.options["soc_model"] for each in load_devices().values() if each.runner == "qnn"]
    assert [chip for chip in chips if chip not in CHIPS and not chip.isdecimal()] == []
    assert len(set(chips)) >= 8


def test_what_is_compiled_for_a_chip_is_for_that_chip_only(wide: Path, tmp_path: Path) -> None:
    target = tmp_path / "qnn" / "sm8550.onnx"
    chip = load_devices()["qnn-sm8550"]
    options = partial(session_options, chip)
    assert write_context(wide, chip, options, SIZES[0], target) == target.stat().st_size
    compiled = onnx.load(target)
    (node,) = (each for each in compiled.graph.node if each.op_type == "EPContext")
    assert node.domain == "com.microsoft"
    other = "was compiled for SM8550, 'qnn-sm8750' is SM8750\n.*take the file in qnn/sm8750/"
    with pytest.raises(UnsupportedModelError, match=other):
        open_session(target, load_devices()["qnn-sm8750"])
    del compiled.metadata_props[:]
    onnx.save(compiled, target)
    with pytest.raises(UnsupportedModelError, match="a chip that it does not name"):
        open_session(target, chip)


def test_a_chip_has_one_name() -> None:
    names = {name: chip_name(device) for name, device in load_devices().items() if device.runner == "qnn"}
    assert (names["qnn-sm8650"], names["qnn-sa8295p"]) == ("sm8650", "sa8295p")
    assert names["qnn-htp-emulator"] == "sm8650", "the chip that it simulates"


def test_sounds_can_be_read_beside_it(wide: Path, tmp_path: Path) -> None:
    """In a process of its own: the order in which libraries are loaded ended it without a word."""
    pytest.importorskip("soundfile")
    sound, profile = tmp_path / "sound.flac", "load_devices()['qnn-htp-emulator']"
    write_flac(sound, np.zeros(1600, np.float32))
    program = (
        "from pathlib import Path\n"
        "from edgelr.device.load import load_devices\n"
        "from edgelr.device.session import open_session\n"
        "from edgelr.runtime.audio import read_audio\n"
        f"open_session(Path({str(wide)!r}), {profile}, sizes=({SIZES[0]!r},))\n"
        f"print(len(read_audio(Path({str(sound)!r}))))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["1600"]), done.stderr
