"""Any ONNX file, from a recipe to a package, in a process that has no torch."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from graph_models import FLOAT, RECIPE, model, network, write_recipe
from onnx import helper

from edgelr.errors import EdgelrError
from edgelr.pipeline import build
from edgelr.pipeline import plan as plan_only

WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; "
    "from edgelr.cli import main; main()"
)


def edgelr(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    recipe = write_recipe(folder)
    done = edgelr("build", recipe, "--out", folder / "out", "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_package_is_built_without_torch(made):
    folder, report, said = made
    assert report["passed"]
    assert report["model"]["candidate"]["parameters"] < 0.9 * report["model"]["dense"]["parameters"]
    assert "low-rank layers pivoted" in said
    forms = {layer["form"] for layer in report["layers"]}
    assert "low-rank" in forms
    metrics = {(row["variant"], row["metric"]): row["value"] for row in report["accuracy"]}
    assert metrics["dense-fp32", "cosine"] == pytest.approx(1)
    assert metrics["dense-fp32", "difference"] == pytest.approx(0, abs=1e-6)
    assert 0.5 < metrics["candidate", "cosine"] < 1
    assert {row["variant"] for row in report["latency"]} == {"dense-fp32", "dense-int8", "candidate"}
    graph = onnx.load(folder / "out" / "package" / "model.onnx")
    onnx.checker.check_model(graph)


def test_the_package_runs_and_validates_without_torch(made):
    folder, _, _ = made
    package = folder / "out" / "package"
    np.savez(folder / "one.npz", ids=np.arange(9)[None])
    done = edgelr("run", package, folder / "one.npz", "--out", folder / "y.npz", folder=folder)
    assert done.returncode == 0, done.stderr
    done = edgelr("validate", package, "--device", "cpu-1t", "--json", folder=folder)
    assert done.returncode == 0, done.stderr


def test_nothing_is_made_twice(made):
    folder, first, _ = made
    again = build(folder / "tiny.yaml", folder / "out")
    assert all(stage["reused"] for stage in again.document["stages"])
    assert [stage["key"] for stage in first["stages"]] == [stage["key"] for stage in again.document["stages"]]


def test_a_budget_of_quality_leaves_dense_what_does_not_pay(tmp_path):
    keep = "keep: {quality: {metric: cosine, max_drop: 0}}"
    recipe = write_recipe(tmp_path, text=RECIPE.replace("keep: {parameters: 0.6}", keep))
    document = plan_only(recipe, tmp_path / "out").document
    assert {layer["form"] for layer in document["layers"]} == {"dense"}


def test_a_metric_of_ones_own(tmp_path):
    code = "def best(outputs, inputs):\n    return float((outputs['y'].argmax(1) == 3).mean())\n"
    (tmp_path / "judge.py").write_text(code, encoding="utf-8")
    text = RECIPE.replace("  type: onnx\n", "  type: onnx\n  metric: judge.py:best\n")
    text = text.replace("metric: cosine, min: 0.5", "metric: metric, max_drop: 1")
    text = text.replace("keep: {parameters: 0.6}", "keep: {quality: {metric: metric, max_drop: 0.5}}")
    report = build(write_recipe(tmp_path, text=text), tmp_path / "out")
    found = {row["variant"] for row in report.document["accuracy"] if row["metric"] == "metric"}
    assert found == {"dense-fp32", "dense-int8", "candidate"}


CUSTOM = model(
    [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Odd", ["h"], ["y"], domain="my.operators"),
    ],
    {"x": (FLOAT, ["b", 4])},
    {"y": (FLOAT, None)},
    {"w": np.ones((4, 3), np.float32)},
    extra_opsets=(helper.make_opsetid("my.operators", 1),),
)
EMPTY = model([helper.make_node("Abs", ["ids"], ["y"])], {"ids": (7, ["b", 9])}, {"y": (7, None)}, {})


def x_inputs(folder):
    np.savez(folder / "inputs.npz", x=np.ones((40, 4), np.float32))


def bytes_of(content):
    return lambda folder: (folder / "model.onnx").write_bytes(content)


def ids_as(name, dtype, width):
    return lambda folder: np.savez(folder / "inputs.npz", **{name: np.zeros((40, width), dtype)})


@pytest.mark.parametrize(
    ("proto", "change", "code", "message"),
    [
        (EMPTY, None, 4, "no weight matrix at all"),
        (None, bytes_of(b"no protobuf"), 4, "no ONNX model"),
        (None, bytes_of(b""), 4, "no ONNX model"),
        (CUSTOM, x_inputs, 3, "operators that this ONNX Runtime has not"),
        (None, ids_as("odd", np.int64, 9), 5, "has arrays odd, the graph also wants ids"),
        (None, ids_as("ids", np.float32, 9), 5, "is float32"),
        (None, lambda folder: np.savez(folder / "inputs.npz", ids=np.zeros(40, np.int64)), 5, r"int64 \[1\]"),
        (None, lambda folder: (folder / "inputs.npz").unlink(), 5, "inputs.npz cannot be read"),
        (None, lambda folder: (folder / "model.onnx").unlink(), 2, "model.path: there is no file"),
        (network(opset=9), None, 4, "has opset 9"),
    ],
)
def test_bad_input(tmp_path, proto, change, code, message):
    recipe = write_recipe(tmp_path, proto)
    if change is not None:
        change(tmp_path)
    with pytest.raises(EdgelrError, match=message) as caught:
        plan_only(recipe, tmp_path / "out")
    assert caught.value.exit_code == code
