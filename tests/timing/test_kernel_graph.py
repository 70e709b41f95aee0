from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgelr.quantize.dynamic import quantize_matrices, unquantized_matrices
from edgelr.timing.kernel_graph import Attention, Kernel, write_kernel, write_stub

TOKENS = 3
DENSE = Kernel(8, (6,), None)
FACTORED = Kernel(8, (6,), 2)
JOINT = Kernel(8, (6, 4, 6), 2)
KERNELS = (DENSE, FACTORED, JOINT, Kernel(8, (6, 4, 6), None))
PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")


def matrices(kernel: Kernel) -> int:
    return kernel.copies * (len(kernel.outs) + (kernel.rank is not None))


def as_run(path: Path) -> Counter[str]:
    """Operators of the graph that ONNX Runtime makes of it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def run(path: Path, inputs: dict[str, Any]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {name: np.ones(values["normal"], np.float32) for name, values in inputs.items()}
    (found,) = session.run(None, feeds)
    return found


def test_parameters_are_those_of_the_matrices() -> None:
    assert [kernel.parameters for kernel in KERNELS] == [48, 28, 48, 128]


def test_large_kernels_have_fewer_copies() -> None:
    widths = (256, 384, 512, 768, 4096)
    assert [Kernel(width, (width,), None).copies for width in widths] == [8, 7, 4, 1, 1]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_each_copy_is_computed_with_weights_of_its_own(tmp_path: Path, kernel: Kernel) -> None:
    path = tmp_path / "kernel.onnx"
    inputs = write_kernel(path, kernel, TOKENS)
    assert inputs == {f"x{copy}": {"normal": [1, TOKENS, 8]} for copy in range(kernel.copies)}
    found = run(path, inputs)
    assert found.shape == (kernel.copies * len(kernel.outs), 1, 1)
    assert len(np.unique(found)) == found.size
    assert sum(as_run(path)[kind] for kind in PRODUCTS) == matrices(kernel), (
        "the runtime dropped or joined some"
    )


def test_outputs_may_be_narrower_than_there_are_outputs(tmp_path: Path) -> None:
    kernel = Kernel(2, (1, 3, 1), None)
    for write in (write_kernel, write_stub):
        found = run(tmp_path / "kernel.onnx", write(tmp_path / "kernel.onnx", kernel, TOKENS))
        assert found.shape == (kernel.copies * 3, 1, 1)


def test_it_computes_what_a_factored_layer_does(tmp_path: Path) -> None:
    path = tmp_path / "kernel.onnx"
    inputs = write_kernel(path, JOINT, TOKENS)
    weights = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    inner = np.ones(8) @ weights["down1"]
    expected = [(inner @ weights[f"up1.{place}"] + weights[f"bias1.{place}"])[place] for place in range(3)]
    np.testing.assert_allclose(run(path, inputs)[3:6, 0, 0], expected, rtol=1e-5)


def test_the_stub_is_the_same_without_the_kernel(tmp_path: Path) -> None:
    kernel, stub = tmp_path / "kernel.onnx", tmp_path / "stub.onnx"
    assert write_stub(stub, JOINT, TOKENS) == write_kernel(kernel, JOINT, TOKENS)
    ours, theirs = as_run(stub), as_run(kernel)
    assert not any(ours[kind] for kind in PRODUCTS)
    assert ours["Slice"] == theirs["Slice"] == JOINT.copies * 3


def test_the_file_is_always_the_same(tmp_path: Path) -> None:
    for name in "ab":
        write_kernel(tmp_path / name, JOINT, TOKENS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_int8_quantizes_activations_once_a_layer_and_never_across_copies(
    tmp_path: Path, kernel: Kernel
) -> None:
    source, target = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    write_kernel(source, kernel, TOKENS)
    quantize_matrices(source, target)
    proto = onnx.load(target)
    assert unquantized_matrices(proto) == []
    kinds = Counter(node.op_type for node in proto.graph.node)
    assert kinds["MatMulInteger"] == matrices(kernel)
    assert kinds["DynamicQuantizeLinear"] == kernel.copies * (1 if kernel.rank is None else 2)


# --- attention -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [Attention(2, 4, 4), Attention(2, 3, 4), Attention(2, 4, 1)], ids=str)
def test_attention_is_computed_for_each_copy(tmp_path: Path, kernel: Attention) -> None:
    path, stub = tmp_path / "kernel.onnx", tmp_path / "stub.onnx"
    inputs = write_kernel(path, kernel, TOKENS)
    assert inputs["q1"] == inputs["k1"] == {"normal": [1, TOKENS, 2 * kernel.size]}
    assert inputs["v1"] == {"normal": [1, TOKENS, 2 * kernel.value_size]}
    np.testing.assert_allclose(run(path, inputs), np.ones((kernel.copies, 1, 1)), rtol=1e-6)
    assert as_run(path)["Attention"] == kernel.copies
    assert write_stub(stub, kernel, TOKENS) == inputs
    assert run(stub, inputs).shape == (kernel.copies, 1, 1)
    assert as_run(stub)["Slice"] == as_run(path)["Slice"]
