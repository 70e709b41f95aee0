from dataclasses import asdict

import onnx
import pytest

from edgelr.quantize.choice import choose
from edgelr.quantize.graphs import prepare_graph, quantize_prepared
from edgelr.quantize.left import VECTORS, fp32_left, weight_bytes
from edgelr.recipe.quantize import Quantize


@pytest.fixture
def left(tmp_path):
    def left(tiny, islands=(), **settings):
        wanted = Quantize.model_validate(settings)
        (tmp_path / "prepared").mkdir()
        graph = prepare_graph(tiny.path, tmp_path / "prepared")
        choices = choose(graph.layers, wanted)
        target = tmp_path / "q.onnx"
        quantize_prepared(graph, target, choices, wanted, tiny.feeds)
        return fp32_left(graph.path, target, graph.layers, choices, islands), weight_bytes(graph.path)

    return left


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-static", "weight-int8", "weight-int4"])
def test_only_vectors_stay(tiny, left, scheme):
    """Scales are no weights that stayed, whatever their shape and name."""
    found, total = left(tiny, scheme=scheme)
    assert [asdict(each) for each in found] == [
        {"name": VECTORS, "bytes": 160 * 4, "reason": "no scheme takes them", "stated": False}
    ]
    arrays = onnx.load(tiny.path).graph.initializer
    assert total == 4 * sum(onnx.numpy_helper.to_array(each).size for each in arrays)


@pytest.mark.parametrize("scheme", ["fp16", "a16w8"])
def test_nothing_stays_where_a_graph_is_taken_whole(tiny, left, scheme):
    assert left(tiny, scheme=scheme)[0] == ()


def test_what_the_recipe_keeps_is_said_with_its_glob(make_tiny, left):
    found, _ = left(make_tiny("factored"), scheme="int8-dynamic", layers={"*.second": "fp32"})
    kept = {each.name: each for each in found if each.name != VECTORS}
    assert set(kept) == {"encoder.second.down", "encoder.second.up"}
    assert {(each.reason, each.stated) for each in kept.values()} == {("quantize.layers: *.second", True)}
    assert kept["encoder.second.down"].bytes == 4 * 160 * 40


def test_a_small_table_is_no_ones_wish(make_tiny, left, tmp_path):
    tiny = make_tiny("dense")
    proto = onnx.load(tiny.path)
    proto.graph.initializer.append(
        onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(proto.graph.initializer[1])[:7, :64].copy(), "few"
        )
    )
    proto.graph.input.append(onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"]))
    proto.graph.node.append(onnx.helper.make_node("Gather", ["few", "ids"], ["rows"], name="types"))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, None))
    onnx.save(proto, tiny.path)
    found, _ = left(tiny, scheme="int8-dynamic")
    (few,) = [each for each in found if each.name != VECTORS]
    assert (few.name, few.bytes, few.stated) == ("types", 4 * 7 * 64, False)
    assert few.reason == "a table of fewer than 65536 numbers"
