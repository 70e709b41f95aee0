"""Every scheme on dense, factored, pivoted and tied graphs; and graphs that no scheme can take."""

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.errors import DamagedArtifactError, QuantizeError
from edgelr.lowrank import graph_file
from edgelr.quantize.choice import choose
from edgelr.quantize.graphs import prepare_graph, quantize_prepared
from edgelr.quantize.stage import quantize_graph
from edgelr.recipe.quantize import Quantize, Scheme

# What full precision loses on these graphs, with room: random weights forgive less than trained ones.
LEAST = {
    "int8-dynamic": 0.998,
    "int8-static": 0.998,
    "a16w8": 0.9998,
    "weight-int8": 0.9998,
    "weight-int4": 0.98,
    "fp16": 0.99999,
}


def quantized(tiny: Any, folder: Path, **settings: Any) -> Path:
    wanted = Quantize.model_validate(settings)
    (folder / "prepared").mkdir(exist_ok=True)
    graph = prepare_graph(tiny.path, folder / "prepared")
    target = folder / "quantized.onnx"
    quantize_prepared(graph, target, choose(graph.layers, wanted), wanted, tiny.feeds)
    return target


def fp32_matrices(path: Path) -> list[str]:
    graph = onnx.load(path).graph
    return [
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2 and "scale" not in tensor.name
    ]


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_every_scheme_is_close_to_fp32_and_leaves_no_matrix(
    tiny: Any, tmp_path: Path, scheme: Scheme
) -> None:
    target = quantized(tiny, tmp_path, scheme=scheme)
    assert tiny.cosine(target) > LEAST[scheme]
    assert fp32_matrices(target) == []
    share = 0.55 if scheme == "fp16" else 0.42
    assert target.stat().st_size < share * tiny.path.stat().st_size


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_the_same_graph_gives_the_same_bytes(make_tiny: Any, tmp_path: Path, scheme: Scheme) -> None:
    tiny = make_tiny("tied")
    assert (
        quantized(tiny, tmp_path, scheme=scheme).read_bytes()
        == quantized(tiny, tmp_path, scheme=scheme).read_bytes()
    )


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_every_way_to_find_a_range(make_tiny: Any, tmp_path: Path, method: str) -> None:
    tiny = make_tiny("factored")
    assert tiny.cosine(quantized(tiny, tmp_path, scheme="int8-static", calibration=method)) > 0.99


def test_layers_with_schemes_of_their_own(make_tiny: Any, tmp_path: Path) -> None:
    tiny = make_tiny("factored")
    layers = {
        "*.first.down": "fp32",
        "encoder.first": "weight-int8",
        "model.encoder.second.down": "int8-static",
    }
    target = quantized(tiny, tmp_path, scheme="int8-dynamic", layers=layers)
    kinds = Counter(node.op_type for node in onnx.load(target).graph.node)
    assert {kind: kinds[kind] for kind in ("MatMulInteger", "MatMulNBits", "MatMul", "QuantizeLinear")} == {
        "MatMulInteger": 1,
        "MatMulNBits": 1,
        "MatMul": 2,  # one in fp32, one between quantizers
        "QuantizeLinear": 1,
    }
    assert fp32_matrices(target) == ["encoder.first.down.weight"]
    assert tiny.cosine(target) > 0.998


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_one_layer_in_half_precision(make_tiny: Any, tmp_path: Path, scheme: Scheme) -> None:
    tiny = make_tiny("dense")
    target = quantized(tiny, tmp_path, scheme=scheme, layers={"*.first": "fp16"})
    halves = [t.name for t in onnx.load(target).graph.initializer if t.data_type == TensorProto.FLOAT16]
    assert "encoder.first.weight" in halves
    assert tiny.cosine(target) > LEAST[scheme]


def test_all_layers_in_fp32_give_the_same_graph(tiny: Any, tmp_path: Path) -> None:
    target = quantized(tiny, tmp_path, scheme="int8-dynamic", layers={"*": "fp32"})
    assert tiny.cosine(target) > 0.999999


def test_a_tied_vocabulary_may_stay_as_it_is(make_tiny: Any, tmp_path: Path) -> None:
    tiny = make_tiny("tied")
    for scheme in ("int8-dynamic", "weight-int4"):
        target = quantized(tiny, tmp_path, scheme=scheme, layers={"head": "fp32", "embedding": "fp32"})
        assert fp32_matrices(target) == ["head.weight"]


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-static", "a16w8", "weight-int4"])
def test_a_tied_vocabulary_in_blocks_is_stored_once(make_tiny: Any, tmp_path: Path, scheme: str) -> None:
    tiny = make_tiny("tied")
    target = quantized(tiny, tmp_path, scheme=scheme, vocabulary="int4")
    kinds = Counter(node.op_type for node in onnx.load(target).graph.node)
    assert kinds["GatherBlockQuantized"] == 1
    assert fp32_matrices(target) == []
    assert tiny.cosine(target) > 0.98


# --- what cannot be ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_what_is_quantized_already(make_tiny: Any, tmp_path: Path, scheme: Scheme) -> None:
    target = quantized(make_tiny("dense"), tmp_path, scheme=scheme)
    message = "has nothing to quantize" if scheme == "fp16" else "is quantized already: it has"
    with pytest.raises(QuantizeError, match=message):
        prepare_graph(target, tmp_path / "prepared")


def test_what_is_fused_already(make_tiny: Any, tmp_path: Path) -> None:
    tiny = make_tiny("dense")
    proto = onnx.load(tiny.path)
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "FusedMatMul", "com.microsoft"
    onnx.save(proto, tiny.path)
    with pytest.raises(QuantizeError, match=r"dense.onnx is fused already: 1 nodes \(FusedMatMul\)"):
        prepare_graph(tiny.path, tmp_path)


@pytest.mark.parametrize("opset", [9, 11])
@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-static", "a16w8"])
def test_an_old_opset_is_raised(make_tiny: Any, tmp_path: Path, opset: int, scheme: str) -> None:
    tiny = make_tiny("dense", opset=opset)
    target = quantized(tiny, tmp_path, scheme=scheme)
    assert max(entry.version for entry in onnx.load(target).opset_import if not entry.domain) >= 13
    assert tiny.cosine(target) > 0.99


def test_an_opset_that_cannot_be_raised(make_tiny: Any, tmp_path: Path) -> None:
    tiny = make_tiny("dense", opset=11)
    proto = onnx.load(tiny.path)
    proto.graph.node.append(helper.make_node("NoSuchOperator", ["y"], ["z"]))
    onnx.save(proto, tiny.path)
    with pytest.raises(QuantizeError, match="has opset 11, quantization needs 13") as caught:
        prepare_graph(tiny.path, tmp_path)
    assert caught.value.hint == "export the graph again with opset 13 or later"


def test_weights_in_a_file_of_their_own(make_tiny: Any, tmp_path: Path) -> None:
    tiny = make_tiny("factored")
    inside = quantized(tiny, tmp_path, scheme="int8-static").read_bytes()
    (tmp_path / "outside").mkdir()
    moved = tmp_path / "outside" / tiny.path.name
    onnx.save(
        onnx.load(tiny.path), moved, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert quantized(type(tiny)(moved, tiny.feeds), tmp_path, scheme="int8-static").read_bytes() == inside


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin"])
def test_weights_that_are_not_there_or_elsewhere(make_tiny: Any, tmp_path: Path, location: str) -> None:
    tiny = make_tiny("dense")
    (tmp_path / "graph").mkdir()
    moved = tmp_path / "graph" / "model.onnx"
    onnx.save(
        onnx.load(tiny.path), moved, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (tmp_path / "graph" / "weights.bin").rename(tmp_path / "weights.bin")
    proto = onnx.load(moved, load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = location
    moved.write_bytes(proto.SerializeToString())
    with pytest.raises(DamagedArtifactError, match="its weights cannot be read"):
        prepare_graph(moved, tmp_path)


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_a_matrix_that_several_nodes_multiply_by_is_stored_once(
    make_tiny: Any, tmp_path: Path, scheme: Scheme
) -> None:
    again = helper.make_node("MatMul", ["y", "encoder.first.weight"], ["again"], name="again")
    tiny = make_tiny("dense", extra=(again,))
    proto = onnx.load(tiny.path)
    proto.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["n", 160]))
    onnx.save(proto, tiny.path)
    target = quantized(tiny, tmp_path, scheme=scheme)
    names = [tensor.name for tensor in onnx.load(target).graph.initializer]
    assert len(set(names)) == len(names)
    assert target.stat().st_size < (0.55 if scheme == "fp16" else 0.42) * tiny.path.stat().st_size
    assert tiny.cosine(target) > LEAST[scheme] - 0.02


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_what_a_branch_reads_stays_as_it_is(make_tiny: Any, tmp_path: Path, scheme: Scheme) -> None:
    """A matrix inside of If, and one from outside that is read there."""
    inner = numpy_helper.from_array(np.eye(160, dtype=np.float32) * 0.5, "inner")
    shape = ["n", 160]
    branches = []
    for number, matrix in enumerate(("encoder.first.weight", "encoder.first.weight")):
        names = [f"a{number}", f"b{number}"]
        nodes = [
            helper.make_node("MatMul", ["y", matrix], [names[0]], name=f"inside{number}"),
            helper.make_node("MatMul", [names[0], "inner"], [names[1]], name=f"own{number}"),
        ]
        out = helper.make_tensor_value_info(names[1], TensorProto.FLOAT, shape)
        branches.append(helper.make_graph(nodes, "branch", [], [out], [inner]))
    branch = helper.make_node(
        "If", ["yes"], ["z"], name="if", then_branch=branches[0], else_branch=branches[1]
    )
    tiny = make_tiny("dense", extra=(branch,))
    proto = onnx.load(tiny.path)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, shape))
    onnx.save(proto, tiny.path)
    target = quantized(tiny, tmp_path, scheme=scheme)
    assert tiny.cosine(target) > LEAST[scheme] - 0.01


def write_repeated(tiny: Any, kind: str) -> None:
    """``z``: y multiplied again and again by a matrix of a body's own, and one from outside."""
    body_nodes = [
        helper.make_node("MatMul", ["state", "inner"], ["once"], name="own"),
        helper.make_node("MatMul", ["once", "outer"], ["twice"], name="from_outside"),
        helper.make_node("Tanh", ["twice"], ["next"], name="bounded"),
    ]
    state, after = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in ("state", "next")
    )
    inner = numpy_helper.from_array(np.eye(64, dtype=np.float32) * 0.5, "inner")
    if kind == "Loop":
        body_nodes.append(helper.make_node("Identity", ["going"], ["on"], name="on"))
        number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
        going, on = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("going", "on"))
        body = helper.make_graph(body_nodes, "body", [number, going, state], [on, after], [inner])
        node = helper.make_node("Loop", ["times", "", "y"], ["z"], name="loop", body=body)
    else:
        body_nodes.append(helper.make_node("Identity", ["step"], ["seen"], name="seen"))
        step, seen = (helper.make_tensor_value_info(name, TensorProto.INT64, []) for name in ("step", "seen"))
        body = helper.make_graph(body_nodes, "body", [state, step], [after, seen], [inner])
        node = helper.make_node("Scan", ["y", "steps"], ["z", "s"], name="scan", body=body, num_scan_inputs=1)
    proto = onnx.load(tiny.path)
    outer = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32) / 4
    for name, array in (("outer", outer), ("times", np.array(3)), ("steps", np.arange(3))):
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    proto.graph.node.append(node)
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 64]))
    onnx.save(proto, tiny.path)


@pytest.mark.parametrize(
    ("kind", "scheme"), [*(("Loop", scheme) for scheme in get_args(Scheme)), ("Scan", "int8-dynamic")]
)
def test_what_is_inside_of_a_loop_stays_as_it_is_and_is_named(
    make_tiny: Any, tmp_path: Path, kind: str, scheme: Scheme
) -> None:
    tiny = make_tiny("dense")
    write_repeated(tiny, kind)
    target = tmp_path / "quantized.onnx"
    settings = Quantize(scheme=scheme)
    left = {each.name: each for each in quantize_graph(tiny.path, target, settings, tiny.feeds)}
    assert tiny.cosine(target) > LEAST[scheme] - 0.01
    types = {tensor.name: tensor.data_type for tensor in onnx.load(target).graph.initializer}
    assert types["outer"] == TensorProto.FLOAT
    assert not {"encoder.first.weight", "encoder.second.weight"} & {
        name for name, found in types.items() if found == TensorProto.FLOAT
    }, "what is outside of the loop is quantized all the same"
    for name in ("inner", "outer"):
        assert (left[name].bytes, left[name].reason) == (4 * 64 * 64, "read by a branch or a loop")
        assert not left[name].stated, "nobody wanted it so: a large one is a warning"


def test_gemm_is_quantized_too(make_tiny: Any, tmp_path: Path) -> None:
    tiny = make_tiny("dense")
    proto = onnx.load(tiny.path)
    first, add, *_ = proto.graph.node
    first.op_type = "Gemm"
    first.input.append("bias")
    first.output[0] = add.output[0]
    matrix = proto.graph.initializer[1]
    matrix.CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(matrix).T), matrix.name)
    )
    first.attribute.append(helper.make_attribute("transB", 1))
    proto.graph.node.remove(add)
    onnx.save(proto, tiny.path)
    for scheme in get_args(Scheme):
        target = quantized(tiny, tmp_path, scheme=scheme, layers={"encoder.first": scheme})
        assert fp32_matrices(target) == []
        assert tiny.cosine(target) > LEAST[scheme]


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_a_graph_beyond_what_one_file_holds_is_the_same(
    scheme: str, make_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is written as in between, its weights are beside it, once."""
    tiny = make_tiny("factored")
    whole = quantized(tiny, tmp_path, scheme=scheme)
    found = tiny.cosine(whole)
    weights = sum(len(tensor.raw_data) for tensor in onnx.load(whole).graph.initializer)
    monkeypatch.setattr(graph_file, "EXTERNAL_FROM_BYTES", 1000)
    apart = quantized(tiny, tmp_path, scheme=scheme)
    assert apart.stat().st_size + (tmp_path / "quantized.onnx.data").stat().st_size < 1.5 * weights
    assert tiny.cosine(apart) == found
