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


@pytest.fixture
def calibration(tmp_path):
    """Three calls of ``graph``, as normal numbers as its test input."""
    arrays = {}
    for call in range(3):
        arrays[f"x.{call}"] = RANDOM.normal(size=(2, 9, 128)).astype(np.float32)
        arrays[f"ids.{call}"] = RANDOM.integers(0, 2000, size=(2, 9))
    path = tmp_path / "inputs.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_becomes_smaller_and_is_compared(scheme, graph, calibration, tmp_path, capsys):
    out = tmp_path / "new" / "small.onnx"
    options = ("--scheme", scheme, "--out", out, "--shape", "tokens=5", "--calibration", calibration)
    code, document = quantize(capsys, graph, *options)
    assert code == 0
    share = 0.4 if scheme == "int8-static" else 0.55  # what is looked up has 16 bits, as all that flows
    assert document["bytes"] == out.stat().st_size < share * document["bytes_before"]
    assert document["cosine"]["y"] > 0.98
    if scheme != "fp16":
        code, document = quantize(capsys, out, "--scheme", "int8-dynamic", "--out", tmp_path / "again.onnx")
        assert (code, "is quantized already" in document["error"]["message"]) == (8, True)


@pytest.mark.parametrize("scheme", ["int8-static", "a16w8", "fp16"])
def test_a_file_has_no_calibration_data_of_its_own(scheme, graph, tmp_path, capsys):
    code, document = quantize(capsys, graph, "--scheme", scheme, "--out", tmp_path / "small.onnx")
    assert (code, "add --calibration inputs.npz" in document["error"]["message"]) == (2, True)


def test_calibration_data_must_fit(graph, tmp_path, capsys):
    good = {"x": np.zeros((1, 3, 128), np.float32), "ids": np.zeros((1, 3), np.int64)}
    wrong = {
        "has NaN or infinity": {**good, "x": np.full((1, 3, 128), np.nan, np.float32)},
        "wants float32": {**good, "x": np.zeros((1, 3, 64), np.float32)},
        "has no array 'ids'": {"x": good["x"]},
        "no calibration data": {"other": good["x"]},
    }
    path = tmp_path / "inputs.npz"
    for message, arrays in wrong.items():
        np.savez(path, **arrays)
        options = ("--scheme", "int8-static", "--out", tmp_path / "small.onnx", "--calibration", path)
        code, document = quantize(capsys, graph, *options)
        assert (code, message in document["error"]["message"]) == (5, True)
    assert not (tmp_path / "small.onnx").exists()


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


def test_a_package_is_calibrated_on_what_is_given_or_on_its_examples(make_package, tmp_path, capsys):
    package = make_package()
    inputs = package.folder / "reference.npz"  # its parity cases
    options = ("--scheme", "int8-static", "--out")
    assert run_command(cli, ["quantize", str(package.folder), *options, str(tmp_path / "own")]) == 0
    assert "calibration data: the examples of tiny itself" in "".join(capsys.readouterr())
    code, _ = quantize(capsys, package.folder, *options, tmp_path / "given", "--calibration", inputs)
    assert code == 0
    one, other = ((tmp_path / name / "model.onnx").read_bytes() for name in ("own", "given"))
    assert one != other


def test_inputs_of_one_graph_are_none_of_a_package_with_two(dense_translator, tmp_path, capsys):
    inputs = dense_translator.folder / "reference.npz"
    options = ("--scheme", "int8-static", "--out", tmp_path / "q", "--calibration", inputs)
    code, document = quantize(capsys, dense_translator.folder, *options)
    assert (code, "has 2 graphs, each with inputs of its own" in document["error"]["message"]) == (2, True)
    assert not (tmp_path / "q").exists()


def test_nothing_is_left_of_a_package_that_is_too_far_from_fp32(make_package, tmp_path, capsys):
    options = ("--scheme", "weight-int4", "--out", tmp_path / "q", "--min-cosine", 1.0)
    assert quantize(capsys, make_package().folder, *options)[0] == 8
    assert not (tmp_path / "q").exists()


@pytest.fixture
def quick(monkeypatch):
    """Little time for timing; what wins does not matter."""
    monkeypatch.setattr("edgelr.quantize.times.SECONDS", 0.3)


@pytest.mark.parametrize("calibrated", [True, False])
def test_auto_times_the_products_of_a_file(quick, graph, calibration, calibrated, tmp_path, capsys):
    out = tmp_path / "fast.onnx"
    options = ("--scheme", "auto", "--out", out, "--shape", "tokens=40")
    given = ("--calibration", calibration) if calibrated else ()
    code, document = quantize(capsys, graph, *options, *given)
    if code == 8:  # a busy host may find fp32 the fastest for this one product
        assert "auto leaves every layer fp32" in document["error"]["message"]
        assert not out.exists()
        return
    assert code == 0
    (shape,) = document["auto"]["shapes"]
    assert (shape["in"], shape["outs"], shape["layers"]) == (128, [64], 1)
    assert shape["rows"] == (2 * 9 if calibrated else 16 * 40)
    assert document["auto"]["device"] == "cpu-1t"
    assert ("int8-static" in shape["ms"]) == calibrated
    assert document["cosine"]["y"] > 0.98


def test_auto_times_the_products_of_a_package(quick, make_package, tmp_path, capsys):
    package = make_package()
    options = ("--scheme", "auto", "--out", tmp_path / "fast", "--min-cosine", 0.5)
    code, document = quantize(capsys, package.folder, *options)
    assert code in (0, 8)
    if code == 0:
        assert open_package(tmp_path / "fast").precision in SCHEMES
        assert document["auto"]["shapes"]


def test_auto_is_chosen_on_a_device_that_is_timed(graph, tmp_path, capsys):
    options = ("--scheme", "auto", "--out", tmp_path / "fast.onnx", "--device")
    code, document = quantize(capsys, graph, *options, "ios-coreml")
    assert (code, "nothing can be timed on 'ios-coreml'" in document["error"]["message"]) == (2, True)
    code, document = quantize(capsys, graph, *options, "cpu-9t")
    assert (code, "cpu-9t" in document["error"]["message"]) == (2, True)
