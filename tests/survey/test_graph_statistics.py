"""The sums are those of the values that a run really has."""

import math

import numpy as np
import pytest
from graph_models import FLOAT, model, network, network_calls, random, run, write
from onnx import helper

from edgelr.errors import DataError
from edgelr.lowrank.graph_file import read_graph
from edgelr.lowrank.graph_layers import find_layers
from edgelr.lowrank.statistics import read_statistics
from edgelr.progress import Progress
from edgelr.survey.graph_statistics import column_gram, gather_graph, input_names, passes

QUIET = Progress(quiet=True)


def gathered(proto, calls, folder, limit=math.inf):
    path = write(proto, folder)
    read = read_graph(path)
    sites = {layers[0].name: layers for layers in find_layers(read).layers.values()}
    return gather_graph(path, read, sites, calls, folder, QUIET, limit), sites


def test_sums_over_all_calls(tmp_path):
    calls = network_calls(3)
    known, _ = gathered(network(), calls, tmp_path)
    ids = np.concatenate([call["ids"].ravel() for call in calls])
    assert known.inputs["attention.q"] == known.inputs["attention.k"] == "attention.q"
    assert known.inputs["first"] == "first"
    assert known.rows["attention.q"] == len(ids)
    assert known.rows["first"] == 2 * len(ids), "both of its layers count"
    with read_statistics(tmp_path, known.inputs) as statistics:
        np.testing.assert_array_equal(statistics.counts["embed"], np.bincount(ids, minlength=40))
        mean, rows = statistics.mean("attention.k")
        assert rows == len(ids)
        gram = statistics.gram("attention.k")
        assert np.all(np.linalg.eigvalsh(gram) > -1e-9)
        assert np.trace(gram) >= rows * float(mean @ mean)
        assert set(statistics.grams) == {"attention.q", "first", "head"}
        assert set(statistics.outputs) == {"conv"}


@pytest.mark.parametrize("limit", [1, 12_000])
def test_a_limit_of_memory_changes_nothing(tmp_path, limit):
    (tmp_path / "few").mkdir()
    known, sites = gathered(network(), network_calls(2), tmp_path)
    again, _ = gathered(network(), network_calls(2), tmp_path / "few", limit)
    assert again == known
    shapes = {tensor.name: tuple(tensor.dims) for tensor in network().graph.initializer}
    assert len(list(passes(sites, input_names(sites), shapes, limit))) > 1
    one, other = (folder / "statistics.npz" for folder in (tmp_path, tmp_path / "few"))
    with np.load(one) as first, np.load(other) as second:
        assert set(first) == set(second)
        assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_outputs_of_a_convolution_are_without_its_bias(tmp_path):
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")]
    weight, x = random(4, 3, 3), random(2, 3, 9)
    proto = model(nodes, {"x": (FLOAT, [2, 3, 9])}, {"y": (FLOAT, None)}, {"w": weight, "b": random(4)})
    known, _ = gathered(proto, [{"x": x}], tmp_path)
    plain = model(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        {"x": (FLOAT, [2, 3, 9])},
        {"y": (FLOAT, None)},
        {"w": weight},
    )
    (y,) = run(write(plain, tmp_path, "plain.onnx"), {"x": x})
    rows = np.moveaxis(y, 1, -1).reshape(-1, 4).astype(np.float64)
    with read_statistics(tmp_path, known.inputs) as statistics:
        np.testing.assert_allclose(statistics.outputs["conv"], rows.T @ rows, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pads": [1, 0, 2, 0], "strides": [2, 1]},
        {"dilations": [2, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
    ],
)
def test_columns_are_what_a_convolution_along_the_height_reads(tmp_path, settings):
    images = random(2, 3, 9, 8)
    node = helper.make_node("Conv", ["x", "w"], ["y"], **settings)
    gram = column_gram(images, (3, 3), node)
    # A kernel of its own for each entry of a column: its outputs are the columns.
    pick = np.eye(9, dtype=np.float32).reshape(9, 3, 3, 1)
    along = {"strides": [settings.get("strides", [1, 1])[0], 1], "kernel_shape": [3, 1]}
    along |= {name: value for name, value in settings.items() if name != "strides"}
    if "pads" in along:
        along["pads"] = [1, 0, 2, 0]
    proto = model(
        [helper.make_node("Conv", ["x", "w"], ["y"], **along)],
        {"x": (FLOAT, [2, 3, 9, 8])},
        {"y": (FLOAT, None)},
        {"w": pick},
    )
    (y,) = run(write(proto, tmp_path), {"x": images})
    columns = np.moveaxis(y, 1, 0).reshape(9, -1).astype(np.float64)
    skip = settings.get("strides", [1, 1])[1]
    np.testing.assert_allclose(gram, columns @ columns.T / skip, rtol=1e-4, atol=1e-5)


def test_what_is_not_finite_is_named(tmp_path):
    proto = model(
        [helper.make_node("Log", ["x"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"], name="odd")],
        {"x": (FLOAT, [2, 3])},
        {"y": (FLOAT, None)},
        {"w": random(3, 4)},
    )
    with pytest.raises(DataError, match="the input of 'odd' is not finite"):
        gathered(proto, [{"x": np.zeros((2, 3), np.float32)}], tmp_path)


def test_a_call_that_the_graph_fails_on(tmp_path):
    with pytest.raises(DataError, match=r"fails on calibration call 1 \(ids \[2, 9\]\)"):
        gathered(network(), [network_calls(1)[0], {"ids": np.full((2, 9), 99)}], tmp_path)
