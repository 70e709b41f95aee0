"""Weights of 8 bits whose products are exact on processors that add two of them in 16 bits."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelr.quantize.dynamic import quantize_matrices
from edgelr.quantize.pairs import LARGEST, LARGEST_PAIR, round_pairs, use_pairs

EMULATOR = shutil.which("qemu-x86_64-static")


def weights(rows: int = 385, outs: int = 48) -> np.ndarray:
    draw = np.random.default_rng(0)
    found = draw.standard_t(3, size=(rows, outs)) * draw.uniform(0.01, 3, outs)
    found[:, 0] = 1.0  # every pair is as large as can be
    found[:, 1] = np.where(np.arange(rows) % 2, -1.0, 1.0)  # the products of a pair take each other away
    found[:, 2] = 0.0
    found[:, 3] = np.abs(found[:, 3])
    return found


def sums(codes: np.ndarray) -> np.ndarray:
    """The largest of the 16-bit sums of two products, either way: ``[pairs, out]``."""
    even = np.vstack([codes, np.zeros((len(codes) % 2, codes.shape[1]), codes.dtype)]).astype(int)
    up, down = np.maximum(even, 0), np.maximum(-even, 0)
    return 255 * np.maximum(up[0::2] + up[1::2], down[0::2] + down[1::2])


def test_no_pair_saturates_whatever_is_multiplied():
    codes, scales = round_pairs(weights())
    assert sums(codes).max() == 255 * LARGEST_PAIR <= np.iinfo(np.int16).max
    assert codes.dtype == np.int8 and np.abs(codes.astype(int)).max() == LARGEST
    assert scales.shape == (48,) and (scales > 0).all()


def test_every_weight_is_within_one_step_and_most_within_half():
    exact = weights()
    codes, scales = round_pairs(exact)
    steps = np.abs(codes * scales - exact) / scales
    assert steps.max() <= 1.0001
    assert (steps <= 0.5001).mean() > 0.998


def test_never_coarser_than_seven_bits_and_finer_where_neighbors_differ():
    exact = weights()
    codes, scales = round_pairs(exact)
    seven = np.abs(exact).max(axis=0) / 64
    assert (scales <= seven * 1.0001)[[0, 1, *range(3, 48)]].all()
    assert np.median(seven / scales) > 1.3
    assert np.abs(codes[:, 0]).max() == 64  # the two are equal: 7 bits are all there is
    assert np.abs(codes[:, 1]).max() == LARGEST  # of unlike signs nothing adds up
    assert not codes[:, 2].any()


def integer_products(folder: Path, codes: np.ndarray, tokens: int) -> tuple[Path, np.ndarray]:
    """A graph that multiplies bytes by these codes, and inputs at the ends of their range."""
    rows, outs = codes.shape
    draw = np.random.default_rng(1)
    given = np.where(draw.random((tokens, rows)) < 0.5, 0, 255).astype(np.uint8)
    given[0] = 255
    constants = {"b": codes, "za": np.uint8(0), "zb": np.int8(0)}
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b", "za", "zb"], ["y"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, ["n", rows])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["n", outs])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    path = folder / "integers.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path, given


@pytest.mark.parametrize("tokens", [1, 9])
def test_products_of_extreme_inputs_are_exact_here(tmp_path, tokens):
    codes, _ = round_pairs(weights())
    path, given = integer_products(tmp_path, codes, tokens)
    (found,) = onnxruntime.InferenceSession(str(path)).run(None, {"a": given})
    np.testing.assert_array_equal(found, given.astype(np.int64) @ codes.astype(np.int64))


RUN = """
import sys, numpy as np, onnxruntime
path, given, found = sys.argv[1:]
(y,) = onnxruntime.InferenceSession(path).run(None, {"a": np.load(given)})
np.save(found, y)
"""


@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-user-static")
@pytest.mark.parametrize("tokens", [1, 9])
def test_products_are_exact_without_vnni_and_only_neighbors_saturate(tmp_path, tokens):
    """On an emulated Haswell, which has AVX2 and no VNNI; this processor may have it."""
    codes, _ = round_pairs(weights())
    pairs = list(itertools.combinations(range(12), 2))
    both = np.zeros((len(codes), len(pairs)), np.int8)
    for out, pair in enumerate(pairs):
        both[list(pair), out] = LARGEST
    path, given = integer_products(tmp_path, np.hstack([codes, both]), tokens)
    np.save(tmp_path / "given.npy", given)
    files = [str(path), str(tmp_path / "given.npy"), str(tmp_path / "found.npy")]
    command = [str(EMULATOR), "-cpu", "Haswell", sys.executable, "-c", RUN, *files]
    subprocess.run(command, check=True, capture_output=True)
    right = given.astype(np.int64) @ np.hstack([codes, both]).astype(np.int64)
    wrong = np.load(tmp_path / "found.npy")[0] != right[0]
    assert not wrong[: codes.shape[1]].any()
    saturated = [pair for pair, is_wrong in zip(pairs, wrong[codes.shape[1] :], strict=True) if is_wrong]
    assert saturated == [(first, first + 1) for first in range(0, 12, 2)]


def test_only_codes_and_scales_of_matrices_change(make_tiny, tmp_path):
    tiny = make_tiny("factored")
    quantize_matrices(tiny.path, tmp_path / "q.onnx")
    before = {t.name: (t.raw_data, list(t.dims)) for t in onnx.load(tmp_path / "q.onnx").graph.initializer}
    assert use_pairs(tiny.path, tmp_path / "q.onnx") == 4  # again: nothing new
    after = {t.name: (t.raw_data, list(t.dims)) for t in onnx.load(tmp_path / "q.onnx").graph.initializer}
    assert before == after
