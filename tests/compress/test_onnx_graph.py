"""Full rank gives the graph back, whatever the layer; less gives what the factors say."""

import numpy as np
import onnx
import pytest
from graph_models import FLOAT, model, network, network_calls, random, run, write
from onnx import helper, numpy_helper

from edgelr.artifact_files import read_factored
from edgelr.compress.onnx_graph import compress_graph
from edgelr.errors import UnsupportedModelError
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress
from edgelr.structure import Reduction
from edgelr.survey.onnx_graph import survey_graph

QUIET = Progress(quiet=True)
SETTINGS = Compress.model_validate({"keep": {"parameters": 0.5}, "factors": "whitened", "vocabulary": True})


def compressed(path, calls, reductions, folder):
    survey = survey_graph(path, calls, calls[:2], SETTINGS, folder, QUIET)
    return survey, compress_graph(path, survey, reductions(survey), folder / "made", QUIET)


def low_rank(name, rank, **rest):
    return Reduction(form="low-rank", sites=(name,), rank=rank, **rest)


def test_full_rank_gives_the_outputs_back(tmp_path):
    (tmp_path / "made").mkdir()
    path, calls = write(network(), tmp_path), network_calls()
    _, made = compressed(
        path,
        calls,
        lambda survey: [
            Reduction(form="joint", sites=("attention.q", "attention.k"), rank=32),
            *(
                low_rank(site.name, min(site.out, site.in_), shared=site.shared)
                for site in survey.sites
                if not site.name.startswith("attention")
            ),
        ],
        tmp_path,
    )
    for call in calls[:3]:
        np.testing.assert_allclose(run(made.folder / "model.onnx", call)[0], run(path, call)[0], atol=2e-5)
    graph = onnx.load(made.folder / "model.onnx").graph
    assert (
        len(graph.node) == len(onnx.load(path).graph.node) + 7
    )  # embed, conv, q with k, first, second, head and its bias
    names = {tensor.name for tensor in graph.initializer}
    assert not names & {"table", "kernel", "q.weight", "k.weight", "twice.weight", "head.weight"}
    assert {"first.down.weight", "first.up.weight"} <= names, "what shared a weight shares its factors"
    assert not any("second" in name for name in names)
    onnx.checker.check_model(onnx.load(made.folder / "model.onnx"), full_check=True)
    assert read_factored(made.folder) == made


def test_a_low_rank_product_is_that_of_its_factors(tmp_path):
    (tmp_path / "made").mkdir()
    path, calls = write(network(), tmp_path), network_calls()
    _, made = compressed(path, calls, lambda _: [low_rank("attention.q", 5)], tmp_path)
    arrays = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load(made.folder / "model.onnx").graph.initializer
    }
    assert arrays["attention.q.down.weight"].shape == (32, 5)
    assert arrays["attention.q.up.weight"].shape == (5, 24)
    plain = network()
    for tensor in plain.graph.initializer:
        if tensor.name == "q.weight":
            product = arrays["attention.q.down.weight"] @ arrays["attention.q.up.weight"]
            tensor.CopyFrom(numpy_helper.from_array(product, tensor.name))
    path = write(plain, tmp_path, "plain.onnx")
    np.testing.assert_allclose(
        run(made.folder / "model.onnx", calls[0])[0], run(path, calls[0])[0], atol=1e-5
    )


CONVOLUTIONS = [
    {},
    {"pads": [1, 2, 0, 1], "strides": [2, 1]},
    {"dilations": [1, 2]},
    {"auto_pad": "SAME_UPPER"},
]


@pytest.mark.parametrize("form", ["low-rank", "spatial"])
@pytest.mark.parametrize("attributes", CONVOLUTIONS)
def test_convolutions(tmp_path, form, attributes):
    (tmp_path / "made").mkdir()
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", **attributes)
    constants = {"w": random(6, 4, 3, 2), "b": random(6)}
    proto = model([node], {"x": (FLOAT, ["n", 4, 9, 8])}, {"y": (FLOAT, ["n", 6, "h", "w"])}, constants)
    path, calls = write(proto, tmp_path), [{"x": random(2, 4, 9, 8, seed=n)} for n in range(3)]
    full = 6 if form == "low-rank" else 12
    _, made = compressed(path, calls, lambda _: [Reduction(form=form, sites=("conv",), rank=full)], tmp_path)
    np.testing.assert_allclose(
        run(made.folder / "model.onnx", calls[0])[0], run(path, calls[0])[0], atol=1e-5
    )


@pytest.mark.parametrize(("alpha", "bias"), [(1.0, True), (1.0, False), (0.5, True), (0.5, False)])
def test_a_gemm_keeps_its_scales_and_bias(tmp_path, alpha, bias):
    (tmp_path / "made").mkdir()
    reads = ["x", "w", *(["b"] if bias else [])]
    node = helper.make_node("Gemm", reads, ["y"], name="odd", alpha=alpha)
    proto = model(
        [node], {"x": (FLOAT, ["n", 5])}, {"y": (FLOAT, ["n", 7])}, {"w": random(5, 7), "b": random(7)}
    )
    path, calls = write(proto, tmp_path), [{"x": random(8, 5, seed=n)} for n in range(3)]
    _, made = compressed(path, calls, lambda _: [low_rank("odd", 5)], tmp_path)
    np.testing.assert_allclose(
        run(made.folder / "model.onnx", calls[0])[0], run(path, calls[0])[0], atol=1e-5
    )


def test_half_precision_stays_half(tmp_path):
    (tmp_path / "made").mkdir()
    path, calls = write(network(dtype=np.float16), tmp_path), network_calls(3)
    _, made = compressed(path, calls, lambda _: [low_rank("head", 20)], tmp_path)
    (found,) = run(made.folder / "model.onnx", calls[0])
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, run(path, calls[0])[0], atol=0.02)  # 11 bits


def test_a_plan_of_another_graph(tmp_path):
    (tmp_path / "made").mkdir()
    with pytest.raises(UnsupportedModelError, match="has no layer 'nothing'"):
        compressed(write(network(), tmp_path), network_calls(2), lambda _: [low_rank("nothing", 2)], tmp_path)
