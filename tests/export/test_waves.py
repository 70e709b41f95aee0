"""The waves of a Fourier transform as a rule."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from edgelr.export.waves import tabulate_waves
from edgelr.tasks.log_mel import LogMel


def graph_of(mel: LogMel) -> onnx.ModelProto:
    nodes = [helper.make_node("Conv", ["pcm", "kernels"], ["waves_out"], strides=[mel.hop])]
    shape = ["batch", 1, "samples"]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pcm", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("waves_out", TensorProto.FLOAT, ["batch", "frequencies", "frames"])],
        [numpy_helper.from_array(mel.kernels.numpy(), "kernels")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("frame", [400, 512, 129])
def test_the_rule_gives_the_kernels_to_the_last_bit(frame: int) -> None:
    mel = LogMel(torch.ones(frame // 2 + 1, 4), frame=frame, hop=16)
    dense, ruled = graph_of(mel), graph_of(mel)
    saved = tabulate_waves(ruled, frame)
    onnx.checker.check_model(ruled)
    assert saved > 0.8 * mel.kernels.numel()
    assert len(ruled.SerializeToString()) < len(dense.SerializeToString()) - 3 * saved
    pcm = np.random.default_rng(0).normal(size=(2, 1, 3 * frame)).astype(np.float32)
    one, other = (
        InferenceSession(each.SerializeToString()).run(None, {"pcm": pcm})[0] for each in (dense, ruled)
    )
    np.testing.assert_array_equal(one, other)


def test_a_graph_without_such_kernels_is_left_alone() -> None:
    proto = graph_of(LogMel(torch.ones(201, 4), frame=400, hop=16))
    before = proto.SerializeToString()
    assert tabulate_waves(proto, 512) == 0
    assert proto.SerializeToString() == before
