"""The package's graph equals the one that was factored, pivoted or not, and its dense outputs the file's."""

import numpy as np
import onnx
import pytest
from graph_models import run, write_recipe

from edgelr.compress.onnx_graph import compress_graph
from edgelr.errors import ExportError
from edgelr.examples import Call, read_examples
from edgelr.export import onnx_graph
from edgelr.export.label import Label
from edgelr.export.onnx_graph import export_graph
from edgelr.load.stage import load
from edgelr.progress import Progress
from edgelr.recipe.load import load_recipe
from edgelr.recipe.schema import Export
from edgelr.runtime.calls import read_calls, read_outputs
from edgelr.structure import Reduction
from edgelr.survey.onnx_graph import survey_source

QUIET = Progress(quiet=True)


@pytest.fixture
def factored(tmp_path):
    recipe = load_recipe(write_recipe(tmp_path))
    for name in ("source", "survey", "factored", "package"):
        (tmp_path / name).mkdir()
    source = load(recipe, tmp_path, tmp_path / "model.onnx", tmp_path / "source", QUIET)
    survey = survey_source(source, recipe.compress, tmp_path / "survey", QUIET)
    reductions = [Reduction(form="low-rank", sites=(name,), rank=8) for name in ("attention.q", "head")]
    made = compress_graph(source.model_folder, survey, reductions, tmp_path / "factored", QUIET)
    return source, made, Label(name="tiny", task=recipe.task, macs=1)


@pytest.mark.parametrize("pivot", [False, True])
def test_the_graph_is_that_of_the_factors(factored, tmp_path, pivot):
    source, made, label = factored
    settings = Export.model_validate({"pivot": pivot})
    package = export_graph(source, made, label, settings, tmp_path / "package", QUIET)
    examples = read_examples(package.folder / "examples.jsonl", Call)
    calls = read_calls(package.folder, examples)
    outputs, _ = read_outputs(package.folder, len(calls))
    for call, dense in zip(calls, outputs, strict=True):
        np.testing.assert_allclose(
            run(package.folder / "model.onnx", call)[0], run(made.folder / "model.onnx", call)[0], atol=1e-5
        )
        np.testing.assert_allclose(dense["y"], run(source.model_folder, call)[0], atol=1e-6)


def test_pivots_make_it_smaller(factored, tmp_path):
    source, made, label = factored
    counts = []
    for pivot in (False, True):
        folder = tmp_path / f"package-{pivot}"
        folder.mkdir()
        package = export_graph(source, made, label, Export.model_validate({"pivot": pivot}), folder, QUIET)
        counts.append(package.cost.parameters)
    assert counts[1] <= counts[0] - 8 * 8


def test_a_graph_that_is_another_is_refused(factored, tmp_path):
    source, made, label = factored
    tight = Export.model_validate({"pivot": True, "tolerance": 1e-12})
    with pytest.raises(ExportError, match=r"'y' differs from .*, more than 1e-12"):
        export_graph(source, made, label, tight, tmp_path / "package", QUIET)


def two_graphs(tmp_path, factor):
    """``y = x * 1e-5`` and ``y = x * factor``; minus infinity stays what it is."""
    paths = []
    for number, by in enumerate((1e-5, factor)):
        scale = onnx.numpy_helper.from_array(np.array(by, np.float32), "scale")
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Mul", ["x", "scale"], ["y"])],
            "graph",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3])],
            [scale],
        )
        opset = [onnx.helper.make_opsetid("", 20)]
        paths.append(tmp_path / f"{number}.onnx")
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), paths[-1])
    return paths


def test_small_outputs_are_compared_with_their_own_size(tmp_path):
    calls = [{"x": np.array([1.0, -np.inf, 2.0], np.float32)}, {"x": np.zeros(3, np.float32)}]
    assert onnx_graph._check_equal(*two_graphs(tmp_path, 1e-5), calls, 2e-4) == 0.0
    with pytest.raises(ExportError, match=r"'y' differs from .* by 0\.1 of its largest number"):
        onnx_graph._check_equal(*two_graphs(tmp_path, 0.9e-5), calls[:1], 2e-4)
    assert onnx_graph._check_equal(*two_graphs(tmp_path, 1.0001e-5), calls[:1], 2e-4) == pytest.approx(
        1e-4, rel=0.01
    )
