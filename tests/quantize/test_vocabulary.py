import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgelr.quantize.vocabulary import quantize_rows, quantize_tables


def model(*, tied: bool = False) -> onnx.ModelProto:
    table = np.random.default_rng(0).normal(size=(1024, 64)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "ids"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])]
    if tied:
        nodes.append(helper.make_node("Identity", ["table"], ["head"]))
        outputs.append(helper.make_tensor_value_info("head", TensorProto.FLOAT, [1024, 64]))
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(table, "table")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_rows_are_within_half_a_scale():
    table = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) * np.arange(50)[:, None]
    rows, scales = quantize_rows(table.astype(np.float32))
    assert np.all(np.abs(rows * scales - table) <= scales / 2 * (1 + 1e-5))
    assert rows.dtype == np.int8
    assert np.all(rows[0] == 0)


def test_a_gathered_table_becomes_int8_and_gives_nearly_the_same():
    import onnxruntime

    before, after = model(), model()
    assert quantize_tables(after) == 1
    assert len(after.SerializeToString()) < 0.3 * len(before.SerializeToString())
    ids = np.arange(0, 1024, 7)
    results = [
        onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"ids": ids})[0]
        for proto in (before, after)
    ]
    assert np.abs(results[0] - results[1]).max() < np.abs(results[0]).max() / 127


def test_a_tied_table_stays_for_its_other_reader():
    proto = model(tied=True)
    quantize_tables(proto)
    assert "table" in {tensor.name for tensor in proto.graph.initializer}
