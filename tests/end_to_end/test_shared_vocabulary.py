"""``quantize.vocabulary``: one table of encoder, decoder and head, in blocks, with every scheme."""

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelr.artifacts import Package
from edgelr.progress import Progress
from edgelr.quantize.blocks import Blocks, quantize_blocks
from edgelr.quantize.dynamic import unquantized_matrices
from edgelr.quantize.stage import quantize, quantize_graph
from edgelr.recipe.quantize import Quantize, Scheme
from edgelr.runtime.package import open_package
from edgelr.runtime.shared_weights import WEIGHTS, share_weights

Array = NDArray[Any]
Vocabulary = Literal["int8", "int4"]

TOKENS, DIM, BLOCK = 1200, 96, 32
SCHEMES = tuple(scheme for scheme in get_args(Scheme) if scheme != "fp16")  # which has no blocks
DRAW = np.random.default_rng(0)
TABLE = DRAW.normal(size=(TOKENS, DIM)).astype(np.float32)
LAYERS = {name: DRAW.normal(size=(DIM, DIM)).astype(np.float32) / 10 for name in ("encoder", "decoder")}
FEEDS: dict[str, Array] = {
    "ids": DRAW.integers(0, TOKENS, size=(2, 7)),
    "x": DRAW.normal(size=(5, DIM)).astype(np.float32),
}


def write(folder: Path, role: str) -> Path:
    """``found = table[ids]; states = found layer``; a decoder has ``scores = x tableᵀ`` as well."""
    head = role == "decoder"
    nodes = [
        helper.make_node("Gather", ["rows" if head else "table", "ids"], ["found"]),
        helper.make_node("MatMul", ["found", "layer"], ["states"]),
    ]
    constants = {"layer": LAYERS[role]}
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"])]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "tokens", DIM])
        for name in ("found", "states")
    ]
    if head:
        nodes.insert(0, helper.make_node("Transpose", ["matrix"], ["rows"], perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["x", "matrix"], ["scores"]))
        inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", DIM]))
        outputs.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", TOKENS]))
    constants |= {"matrix": np.ascontiguousarray(TABLE.T)} if head else {"table": TABLE}
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, role, inputs, outputs, weights)
    path = folder / f"{role}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def both(folder: Path, scheme: Scheme, vocabulary: Vocabulary | None) -> list[Path]:
    """Encoder and decoder, quantized."""
    settings = Quantize.model_validate({"scheme": scheme, "vocabulary": vocabulary, "block_size": BLOCK})
    fp32, folder = folder / "fp32", folder / f"{scheme}-{vocabulary}"
    paths = []
    for place in (fp32, folder):
        place.mkdir(exist_ok=True)
    for role in LAYERS:
        paths.append(folder / f"{role}.onnx")
        source = write(fp32, role)
        names = [entry.name for entry in onnx.load(source).graph.input]
        quantize_graph(source, paths[-1], settings, [{name: FEEDS[name] for name in names}])
    return paths


def run(path: Path) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = {each.name: FEEDS[each.name] for each in session.get_inputs()}
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, wanted), strict=True))


def stored(path: Path, kind: int) -> list[Array]:
    tensors = onnx.load(path).graph.initializer
    return [numpy_helper.to_array(each) for each in tensors if each.data_type == kind]


def numbers(vocabulary: Vocabulary) -> Array:
    """What the blocks of the table stand for."""
    codes, scales = quantize_blocks(TABLE, Blocks(bits=4 if vocabulary == "int4" else 8, size=BLOCK))
    if vocabulary == "int4":
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(TOKENS, -1, BLOCK)
    half = 8 if vocabulary == "int4" else 128
    return ((codes.astype(np.float32) - half) * scales[..., None]).reshape(TOKENS, DIM)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("vocabulary", get_args(Vocabulary))
def test_rows_and_products_are_those_of_the_blocks(
    scheme: Scheme, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    expected = numbers(vocabulary)
    share = 1 / 8 if vocabulary == "int4" else 1 / 128
    assert np.abs(expected - TABLE).max() <= share * np.abs(TABLE).max() * 1.001
    encoder, decoder = both(tmp_path, scheme, vocabulary)
    for path in (encoder, decoder):
        assert unquantized_matrices(onnx.load(path)) == []
        rows = expected[FEEDS["ids"]]
        # Calibrated schemes quantize what a product reads, and here that is an output too.
        step = np.ptp(rows) / {"int8-static": 2**8, "a16w8": 2**16}.get(scheme, np.inf)
        np.testing.assert_allclose(run(path)["found"], rows, rtol=1e-6, atol=step)
    # The kernel rounds x to int8, block by block: half a step of 1/127 of the largest number of a block.
    steps = np.abs(FEEDS["x"]).max() / 127 / 2 * np.abs(expected).sum(axis=1)
    assert np.all(np.abs(run(decoder)["scores"] - FEEDS["x"] @ expected.T) <= steps + 1e-3)


def test_the_other_matrices_are_as_the_scheme_says(tmp_path: Path) -> None:
    for path in both(tmp_path, "int8-dynamic", "int8"):
        kinds = [node.op_type for node in onnx.load(path).graph.node]
        assert kinds.count("MatMulInteger") == 1
        assert kinds.count("MatMulNBits") == (path.stem == "decoder")
        assert "Transpose" not in kinds
        role = path.stem
        states, expected = run(path)["states"], numbers("int8")[FEEDS["ids"]] @ LAYERS[role]
        assert np.linalg.norm(states - expected) < 0.03 * np.linalg.norm(expected)


@pytest.mark.parametrize("vocabulary", get_args(Vocabulary))
def test_every_scheme_stores_the_same_blocks(vocabulary: Vocabulary, tmp_path: Path) -> None:
    codes, scales = quantize_blocks(TABLE, Blocks(bits=4 if vocabulary == "int4" else 8, size=BLOCK))
    for scheme in SCHEMES:
        for path in both(tmp_path, scheme, vocabulary):
            found = stored(path, TensorProto.UINT8)
            assert sum(np.array_equal(each, codes) for each in found) == 1
            assert sum(np.array_equal(each, scales) for each in stored(path, TensorProto.FLOAT)) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("vocabulary", get_args(Vocabulary))
def test_encoder_decoder_and_head_read_the_same_bytes(
    scheme: Scheme, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    paths = both(tmp_path, scheme, vocabulary)
    codes, scales = quantize_blocks(TABLE, Blocks(bits=4 if vocabulary == "int4" else 8, size=BLOCK))
    before = [run(path) for path in paths]
    assert share_weights(paths) == codes.nbytes + (scales.nbytes if scales.nbytes >= 2**14 else 0)
    for path, expected in zip(paths, before, strict=True):
        for name, array in run(path).items():
            np.testing.assert_array_equal(array, expected[name])
    together = b"".join(path.read_bytes() for path in (*paths, paths[0].parent / WEIGHTS))
    assert together.count(codes.tobytes()) == 1
    assert len(together) < codes.nbytes + scales.nbytes + 3 * DIM * DIM * 2 + 2**13


def test_left_out_int8_dynamic_needs_no_operators_but_standard_ones(tmp_path: Path) -> None:
    for path in both(tmp_path, "int8-dynamic", None):
        assert {node.domain for node in onnx.load(path).graph.node} <= {"", "ai.onnx"}
        found = run(path)["found"]
        assert np.abs(found - TABLE[FEEDS["ids"]]).max() <= np.abs(TABLE).max() / 63


@pytest.mark.parametrize("scheme", ["weight-int8", "weight-int4"])
def test_left_out_blocks_of_weights_come_with_int8_tables(scheme: Scheme, tmp_path: Path) -> None:
    for one, other in zip(both(tmp_path, scheme, None), both(tmp_path, scheme, "int8"), strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("vocabulary", get_args(Vocabulary))
def test_a_translation_package_with_a_head_in_blocks(
    dense_translator: Package, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    (tmp_path / "q").mkdir()
    settings = Quantize.model_validate(
        {"scheme": "int8-dynamic", "vocabulary": vocabulary, "block_size": 16, "min_cosine": 0.9}
    )
    package = quantize(dense_translator, settings, tmp_path / "q", Progress(quiet=True))
    assert open_package(package.folder) == package
    nodes = onnx.load(package.folder / "decoder.onnx", load_external_data=False).graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds.count("MatMulNBits") == 1
    assert kinds.count("MatMulInteger") > 10
