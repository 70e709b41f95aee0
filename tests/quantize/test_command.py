import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.cli import SCHEMES, cli
from edgelr.runtime.package import open_package
from edgelr.terminal import run_command

RANDOM = np.random.default_rng(0)


def quantize(capsys, *arguments) -> tuple[int, dict]:
    code = run_command(cli, ["quantize", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture
def graph(tmp_path):
    """``y = table[ids] + x matrix``, with open sizes."""
    shape = ["batch", "tokens"]
    made = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "matrix"], ["h"]),
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("Add", ["h", "rows"], ["y"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [*shape, 128]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, shape),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*shape, 64])],
        [
            numpy_helper.from_array(RANDOM.normal(size=(128, 64)).astype(np.float32), "matrix"),
            numpy_helper.from_array(RANDOM.normal(size=(2000, 64)).astype(np.float32), "table"),
        ],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_becomes_smaller_and_is_compared(scheme, graph, tmp_path, capsys):
    out = tmp_path / "new" / "small.onnx"
    code, document = quantize(capsys, graph, "--scheme", scheme, "--out", out, "--shape", "tokens=5")
    assert code == 0
    assert document["bytes"] == out.stat().st_size < 0.4 * document["bytes_before"]
    assert document["cosine"]["y"] > 0.98
    code, document = quantize(capsys, out, "--scheme", scheme, "--out", tmp_path / "again.onnx")
    assert (code, "is quantized already" in document["error"]["message"]) == (8, True)


def test_what_is_too_far_is_not_left_behind(graph, tmp_path, capsys):
    out = tmp_path / "small.onnx"
    arguments = ("--scheme", "weight-int4", "--out", out, "--min-cosine", 0.99999)
    code, document = quantize(capsys, graph, *arguments)
    assert code == 8
    assert "the cosine of output 'y' to fp32 is 0.99" in document["error"]["message"]
    assert not out.exists()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_package_becomes_a_package(scheme, make_package, tmp_path, capsys):
    package = make_package()
    code, document = quantize(capsys, package.folder, "--scheme", scheme, "--out", tmp_path / "small")
    assert code == 0
    assert open_package(tmp_path / "small").precision == scheme
    assert document["bytes"] > 0
    code, document = quantize(capsys, package.folder, "--scheme", scheme, "--out", tmp_path / "small")
    assert (code, "there is something already" in document["error"]["message"]) == (2, True)


def test_what_there_is_nothing_to_quantize_in(graph, tmp_path, capsys):
    options = ("--scheme", "int8-dynamic", "--out", tmp_path / "out")
    for path, code, message in (
        (tmp_path, 2, "is a folder without a package.json"),
        (tmp_path / "no.onnx", 2, "is not there"),
    ):
        found, document = quantize(capsys, path, *options)
        assert (found, message in document["error"]["message"]) == (code, True)
    (tmp_path / "text.onnx").write_text("no graph", encoding="utf-8")
    assert quantize(capsys, tmp_path / "text.onnx", *options)[0] == 12
    code, document = quantize(capsys, graph, *options, "--shape", "heads=2")
    assert (code, "no input has an axis of that name" in document["error"]["message"]) == (2, True)
    assert not (tmp_path / "out").exists()
    (tmp_path / "taken.onnx").write_text("mine", encoding="utf-8")
    code, _ = quantize(capsys, graph, "--scheme", "int8-dynamic", "--out", tmp_path / "taken.onnx")
    assert (code, (tmp_path / "taken.onnx").read_text(encoding="utf-8")) == (2, "mine")
