from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgelr.progress import Progress
from edgelr.quantize.choice import choose
from edgelr.quantize.error_list import EXACT_DB, cosine_distance, list_errors, noise_db
from edgelr.quantize.graphs import prepare_graph, quantize_prepared
from edgelr.quantize.learned import learn
from edgelr.quantize.schemes import narrowed
from edgelr.recipe.quantize import Quantize

QUIET = Progress(quiet=True)


@pytest.fixture
def errors(tmp_path):
    def errors(tiny, **settings):
        wanted = Quantize.model_validate(settings)
        (tmp_path / "prepared").mkdir(exist_ok=True)
        graph = prepare_graph(tiny.path, tmp_path / "prepared")
        choices = choose(graph.layers, wanted)
        quantize_prepared(graph, tmp_path / "q.onnx", choices, wanted, tiny.feeds)
        return {e.layer: e for e in list_errors(graph, tmp_path / "q.onnx", choices, tiny.feeds, QUIET)}

    return errors


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-static", "a16w8", "weight-int4", "fp16"])
def test_every_layer_is_measured(tiny, errors, scheme):
    found = errors(tiny, scheme=scheme)
    names = [node.name for node in onnx.load(tiny.path).graph.node if node.op_type in {"MatMul", "Gather"}]
    assert sorted(found) == sorted(names)
    for error in found.values():
        assert 10 < error.alone_db < 100
        assert error.accumulated_db <= error.alone_db + 3
        assert 0 < error.output_change < 0.1


def test_an_error_is_that_of_the_layer_in_a_graph_of_its_own(make_tiny, errors):
    """The first product reads exact inputs: what it loses alone is what the quantized graph shows."""
    found = errors(make_tiny("dense"), scheme="int8-dynamic")["encoder.first"]
    assert found.alone_db == pytest.approx(found.accumulated_db, abs=0.1)


def test_a_change_is_that_of_a_graph_with_one_quantized_layer(make_tiny, errors, tmp_path):
    tiny = make_tiny("factored")
    changes = errors(tiny, scheme="weight-int4")
    for name in ("encoder.first.down", "encoder.second.up"):
        others = {layer: "fp32" for layer in changes if layer != name}
        alone = errors(tiny, scheme="weight-int4", layers=others)
        assert list(alone) == [name]
        distances, at = [], 0
        one, other = tiny.run(), tiny.run(tmp_path / "q.onnx")
        for given in tiny.feeds:
            size = len(given["x"]) * 64
            distances.append(cosine_distance(one[at : at + size], other[at : at + size]))
            at += size
        assert changes[name].output_change == pytest.approx(np.mean(distances), rel=0.02)


def test_of_a_large_graph_only_the_worst_change_the_output(make_tiny, errors, monkeypatch):
    tiny = make_tiny("factored")
    whole = errors(tiny, scheme="weight-int4")
    monkeypatch.setattr("edgelr.quantize.error_list.affordable", lambda layers, values, calls: (1, 2))
    part = errors(tiny, scheme="weight-int4")
    assert list(part) == list(whole)
    worst = sorted(part, key=lambda name: part[name].alone_db)[:2]
    assert [name for name in part if part[name].output_change is not None] == [
        name for name in part if name in worst
    ]
    assert all(part[name].alone_db == pytest.approx(whole[name].alone_db, abs=3) for name in part)


def test_channels_that_are_narrowed_between_two_factors_are_no_error(wide_inside, tmp_path):
    tiny, _ = wide_inside
    settings = Quantize(scheme="int8-dynamic")
    graph = prepare_graph(tiny.path, tmp_path)
    choices, learned = choose(graph.layers, settings), learn(graph.path, tiny.feeds)
    quantize_prepared(graph, tmp_path / "q.onnx", choices, settings, tiny.feeds, learned)
    (tmp_path / "narrowed").mkdir()
    same = narrowed(graph.path, tmp_path / "narrowed", graph.layers, choices, learned)
    for source, right in ((same, True), (graph.path, False)):
        held = replace(graph, path=source)
        found = list_errors(held, tmp_path / "q.onnx", choices, tiny.feeds, QUIET)
        decibels = {each.layer: each.alone_db for each in found}
        assert (min(decibels.values()) > 20) == right, decibels
        assert all(each.accumulated_db <= each.alone_db + 3 for each in found) or not right


def test_decibels():
    one = np.array([3.0, 4.0])
    assert noise_db([one], [one * 1.1]) == pytest.approx(20)
    assert noise_db([one], [one]) == EXACT_DB
    assert noise_db([one], [one * np.inf]) == -EXACT_DB
    assert noise_db([one * 0], [one]) == -EXACT_DB


def test_distances():
    one = np.array([[1.0, 0.0]])
    assert cosine_distance(one, one * 3) == 0
    assert cosine_distance(one, one[:, ::-1]) == 1
    assert cosine_distance(one, one * np.nan) == 1
    assert (cosine_distance(one * 0, one * 0), cosine_distance(one * 0, one)) == (0, 1)
