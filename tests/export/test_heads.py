"""Graphs whose attention lost its zeros give what torch gives, whatever the sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgelr.artifacts import Source
from edgelr.errors import ExportError
from edgelr.examples import Example, write_examples
from edgelr.export.convert import convert
from edgelr.export.fuse import fuse_attention
from edgelr.export.graphs import TextGraph, matrix_count
from edgelr.export.heads import cut_zero_channels
from edgelr.export.label import Label
from edgelr.export.parity import check_parity
from edgelr.export.stage import export
from edgelr.export.tidy import tidy
from edgelr.lowrank.checkpoint import save_factored
from edgelr.lowrank.graph_file import write_graph
from edgelr.lowrank.reduce import restructure
from edgelr.progress import Progress
from edgelr.recipe.schema import Export
from edgelr.recipe.tasks import PairsFile, SentenceEmbedding
from edgelr.structure import Reduction
from edgelr.tasks.task import GraphSpec, Reading, get_task

TASK = get_task("sentence-embedding")
LAYER = "transformer.encoder.layer.{}.attention."
HEADS, HEAD_SIZE = 4, 16
TEXTS = ("how do I copy a file", "sort", "To merge the table, call table_merge with its name.", "open")
EXAMPLES = [Example(id=text, group="g", passage=text) for text in TEXTS]


def pair(form: Any, layer: int, size: int) -> Reduction:
    parts = {"query-key": ("self.query", "self.key"), "value-output": ("self.value", "output.dense")}[form]
    sites = tuple(LAYER.format(layer) + part for part in parts)
    return Reduction(form=form, sites=sites, rank=size, heads=HEADS)


def joint(layer: int) -> Reduction:
    sites = tuple(LAYER.format(layer) + f"self.{part}" for part in ("query", "key", "value"))
    return Reduction(form="joint", sites=sites, rank=20)


def narrowed(folder: Path, reductions: list[Reduction], *, biases: bool) -> nn.Module:
    """The tiny BERT with layers of any weights; its biases are all zeros, or none of them is."""
    torch.manual_seed(0)
    model = TASK.load_model(folder)
    restructure(model, reductions)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and ("narrow" in name or name.endswith(("up", "down"))):
            nn.init.normal_(parameter, std=0.3)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3) if biases else nn.init.zeros_(parameter)
    return model.eval()


def spec_of(model: nn.Module, folder: Path) -> GraphSpec:
    (spec,) = TASK.graphs(model, Reading(folder=folder, max_tokens=32), EXAMPLES)
    assert len({tuple(case["input_ids"].shape) for case in spec.cases}) == 3
    return spec


def cut(model: nn.Module, spec: GraphSpec) -> tuple[onnx.ModelProto, int]:
    graph = convert(spec, TextGraph(model), 20)
    assert fuse_attention(graph) == 2
    proto = tidy(graph, spec, matrix_count(model))
    return proto, cut_zero_channels(proto)


def attentions(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in proto.graph.node if node.op_type in {"MultiHeadAttention", "Attention"}]


def widths(proto: onnx.ModelProto) -> list[tuple[int, ...]]:
    """Output channels of the matrices before each attention: query, key, value; and rows of the one after."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    made_by = {output: node for node in proto.graph.node for output in node.output}

    def out(value: str) -> int:
        node = made_by[value]
        while node.op_type != "MatMul":
            node = next(made_by[name] for name in node.input if name in made_by)
        return shapes[node.input[1]][1]

    found = []
    for attention in attentions(proto):
        (after,) = (node for node in proto.graph.node if attention.output[0] in node.input)
        found.append((*(out(name) for name in attention.input[:3]), shapes[after.input[1]][0]))
    return found


CASES = {
    "query-key": ([pair("query-key", 0, 4)], [(16, 16, 64, 64), (64, 64, 64, 64)], 1),
    "value-output": ([pair("value-output", 1, 6)], [(64, 64, 64, 64), (64, 64, 24, 24)], 1),
    "both": (
        [
            pair("query-key", 0, 4),
            pair("value-output", 0, 6),
            pair("query-key", 1, 8),
            pair("value-output", 1, 1),
        ],
        [(16, 16, 24, 24), (32, 32, 4, 4)],
        4,
    ),
    "full": ([pair("query-key", 0, 16), pair("value-output", 0, 16)], [(64, 64, 64, 64)] * 2, 0),
    "joint": ([joint(0), pair("value-output", 1, 6)], [(64, 64, 64, 64), (64, 64, 24, 24)], 1),
}


@pytest.mark.parametrize(
    ("case", "biases"),
    [
        ("query-key", True),
        ("both", True),
        ("both", False),
        ("full", True),
        ("joint", True),
        pytest.param("value-output", True, marks=pytest.mark.slow),  # as in "joint"; tracing takes seconds
    ],
)
def test_the_graph_equals_torch_on_every_shape(
    case: str, biases: bool, tiny_model: Path, tmp_path: Path
) -> None:
    reductions, expected, count = CASES[case]
    model = narrowed(tiny_model, reductions, biases=biases)
    spec = spec_of(model, tiny_model)
    proto, found = cut(model, spec)
    assert found == count
    assert widths(proto) == expected
    for node, (query, *_) in zip(attentions(proto), expected, strict=True):
        scale = {attribute.name: attribute.f for attribute in node.attribute}.get("scale", HEAD_SIZE**-0.5)
        assert scale == pytest.approx(HEAD_SIZE**-0.5), "scores keep the scale of the heads that were"
        assert query == HEADS * HEAD_SIZE or any(attribute.name == "scale" for attribute in node.attribute)
    assert cut_zero_channels(proto) == 0, "nothing is left to cut"
    write_graph(proto, tmp_path / "model.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"))
    _, worst = check_parity(spec, tmp_path / "model.onnx", 2e-4)
    assert worst < 2e-4
    stored = {tensor.name for tensor in proto.graph.initializer}
    assert {name for node in proto.graph.node for name in node.input} >= stored, (
        "nothing is stored for nobody"
    )


# --- graphs by hand -----------------------------------------------------------------------------------


def by_hand(*, wide: bool = False, scaled: bool = False) -> onnx.ModelProto:
    """One attention of two heads of four channels, of which queries and values use two.

    ``wide``: something else reads the values too. ``scaled``: queries are multiplied by a number.
    """
    draw = np.random.default_rng(0)
    arrays = {name: draw.normal(size=(6, 8)).astype(np.float32) for name in ("wq", "wk", "wv")}
    arrays["wo"] = draw.normal(size=(8, 5)).astype(np.float32)
    arrays["bq"] = draw.normal(size=8).astype(np.float32)
    arrays["half"] = np.array(0.5, np.float32)
    for name in ("wq", "wv", "bq"):
        arrays[name].reshape(-1, 2, 4)[..., 2:] = 0
    nodes = ["q0 = MatMul x wq", "q1 = Add q0 bq", "k = MatMul x wk", "v = MatMul x wv"]
    nodes += ["q = Mul half q1" if scaled else "q = Identity q1"]
    made = []
    for line in nodes:
        result, op, *inputs = line.replace(" = ", " ").split()
        made.append(helper.make_node(op, inputs, [result]))
    query = "q" if scaled else "q1"
    made.append(
        helper.make_node("MultiHeadAttention", [query, "k", "v"], ["c"], domain="com.microsoft", num_heads=2)
    )
    made.append(helper.make_node("MatMul", ["c", "wo"], ["y"]))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", "t", 5])]
    if wide:
        made.append(helper.make_node("Relu", ["v"], ["z"]))
        outputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["b", "t", 8]))
    used = {name for node in made for name in node.input}
    if not scaled:
        made = [node for node in made if node.op_type != "Identity"]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "t", 6])],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def results(proto: onnx.ModelProto) -> list[np.ndarray[Any, Any]]:
    import onnxruntime

    x = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(np.float32)
    return list(onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x}))


@pytest.mark.parametrize(("options", "count"), [({}, 2), ({"scaled": True}, 2), ({"wide": True}, 1)], ids=str)
def test_zeros_go_where_nothing_else_reads_them(options: dict[str, bool], count: int) -> None:
    before = by_hand(**options)
    after = onnx.ModelProto.FromString(before.SerializeToString())
    assert cut_zero_channels(after) == count
    for old, new in zip(results(before), results(after), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in after.graph.initializer}
    assert shapes["wq"] == shapes["wk"] == (6, 4), "a channel that only the query lacks adds nothing either"
    assert shapes["wv"] == ((6, 8) if options.get("wide") else (6, 4))


def test_a_graph_without_attention_is_left_alone() -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    assert cut_zero_channels(helper.make_model(graph)) == 0


# --- the stage ----------------------------------------------------------------------------------------


def test_attention_that_cannot_be_fused_fails_the_export(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reductions = CASES["both"][0]
    model = narrowed(tiny_model, reductions, biases=True)
    factored = save_factored(model, tmp_path / "factored", reductions=reductions, method="plain")
    (tmp_path / "source" / "data").mkdir(parents=True)
    examples = [Example(id=text, group="g", query=text, passage=text) for text in TEXTS]
    write_examples(tmp_path / "source" / "data" / "test.jsonl", examples)
    source = Source(
        folder=tmp_path / "source",
        model_folder=tiny_model,
        fingerprint="f",
        title="tiny",
        license=None,
        counts={"test": len(TEXTS)},
    )
    data = PairsFile(source="file", path="unused.jsonl")
    settings = SentenceEmbedding(type="sentence-embedding", data=data, max_tokens=32)
    label = Label(name="tiny", task=settings, macs=1)
    settings = Export.model_validate({})

    def run(name: str) -> None:
        (tmp_path / name).mkdir()
        export(source, factored, label, settings, tmp_path / name, Progress(quiet=True))

    run("fused")
    assert widths(onnx.load(tmp_path / "fused" / "model.onnx")) == CASES["both"][1]
    for fusion in ("fuse_mha1", "fuse_mha2"):
        monkeypatch.setattr(f"onnxscript.rewriter.ort_fusions.mha.{fusion}", lambda graph: 0)
    with pytest.raises(ExportError, match="smaller in 4 pairs of layers, in the graph only in 0") as caught:
        run("plain")
    assert caught.value.exit_code == 7
    assert "compress.groups: [joint]" in str(caught.value)
