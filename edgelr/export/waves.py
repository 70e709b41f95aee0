"""The waves of a Fourier transform as a table of one period and a rule, in place of a large matrix.

``cos(2 pi k n / N)`` is one of N numbers, the one at ``k n mod N``. Runtimes fold the rule into the matrix
when they load the graph: what is computed is the same to the last bit, and 0.6 MB less have to be shipped, as
much as a small model's decoder.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_NAME = "waves"


def tabulate_waves(proto: onnx.ModelProto, frame: int) -> int:
    """Replace the convolution kernels of a ``LogMel`` by the rule that makes them.

    Args:
        proto: The graph, with its weights as initializers.
        frame: Samples of a frame, N.

    Returns:
        How many numbers the graph stores less; 0, and nothing is changed, where it has no such kernels.
    """
    graph = proto.graph
    size = frame // 2 + 1
    shape = [2 * size, 1, frame]
    read = {node.input[1]: node for node in graph.node if node.op_type == "Conv"}
    kernels = next(
        (each for each in graph.initializer if each.name in read and list(each.dims) == shape), None
    )
    if kernels is None:
        return 0
    angles = np.arange(frame) * (2 * np.pi / frame)
    # As the kernels were made: in double precision, under a Hann window, and rounded once.
    constants = {
        "periods": np.concatenate([np.cos(angles), np.sin(angles)]),
        "window": 0.5 - 0.5 * np.cos(angles),
        "frequencies": np.arange(size)[:, None],
        "times": np.arange(frame)[None, :],
        "frame": np.array(frame),
        "shape": np.array(shape),
    }
    graph.initializer.extend(
        numpy_helper.from_array(values, f"{_NAME}.{name}") for name, values in constants.items()
    )
    graph.initializer.remove(kernels)
    nodes = _rule(kernels.name)
    for at, node in enumerate(nodes):
        graph.node.insert(at, node)
    return int(np.prod(shape)) - sum(int(values.size) for values in constants.values())


def _rule(kernels: str) -> list[onnx.NodeProto]:
    steps = [
        ("Mul", ["frequencies", "times"], "products", {}),
        ("Mod", ["products", "frame"], "steps", {}),
        ("Add", ["steps", "frame"], "sine_steps", {}),
        ("Concat", ["steps", "sine_steps"], "both", {"axis": 0}),
        ("Gather", ["periods", "both"], "waves", {"axis": 0}),
        ("Mul", ["waves", "window"], "windowed", {}),
        ("Cast", ["windowed"], "single", {"to": TensorProto.FLOAT}),
        ("Reshape", ["single", "shape"], kernels, {}),
    ]
    made = []
    for kind, inputs, output, attributes in steps:
        name = output if output == kernels else f"{_NAME}.{output}"
        given = [f"{_NAME}.{each}" for each in inputs]
        made.append(helper.make_node(kind, given, [name], name=f"{_NAME}.make.{output}", **attributes))
    return made
