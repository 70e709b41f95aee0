"""ONNX graphs that time one kernel: some copies of it, so that the call itself counts little.

A call of a session costs tens of microseconds before any node runs, as much as a small kernel. So a graph
holds ``copies`` of the kernel, a stub holds everything of that graph but the kernel, and a kernel's time is
(graph - stub) / copies. A difference of two sizes would say the same with twice the noise.

Each copy has weights and an input of its own: of one shared input, int8 would quantize the activations only
once, where a model does so before every layer (of layers that share their input, once, as here). Of each
output one number is kept, and these are joined into one small output: whole ones would have to be copied to
Python, which costs as much as a kernel, and without an output ONNX Runtime would drop the node.

Attention between the layers is a kernel too: heads of fewer channels make it faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LARGE_PARAMETERS = 2**20  # 4 MiB of fp32: dozens of graphs are open at once
_MOST_COPIES = 8
_OPSET = 23  # the first with ONNX's own attention, which export writes
_IR_VERSION = 11  # what came with it: later ones are refused by older runtimes


# An output, and which of its numbers is kept: another for each, or ONNX Runtime joins those of a stub.
_End = tuple[str, int]


@dataclass(frozen=True)
class Kernel:
    """What is timed: layers that share one input, or one low-rank factor pair with a shared ``down``.

    Attributes:
        in_: Width of the input.
        outs: Width of each output: one for a plain layer, three for q, k and v together.
        rank: Inner dimension of ``up (down x)``, with an ``up`` for each output; None for dense layers.
    """

    in_: int
    outs: tuple[int, ...]
    rank: int | None

    @property
    def parameters(self) -> int:
        """Numbers in its matrices."""
        width = sum(self.outs)
        return self.in_ * width if self.rank is None else self.rank * (self.in_ + width)

    @property
    def copies(self) -> int:
        """How many of it a graph holds: the larger it is, the less the call counts."""
        return max(1, min(_MOST_COPIES, _LARGE_PARAMETERS // self.parameters))


@dataclass(frozen=True)
class Attention:
    """What is timed: attention under a mask, from projected queries, keys and values to contexts.

    Attributes:
        heads: Number of heads.
        size: Channels of a head's queries and keys.
        value_size: Channels of a head's values.
    """

    heads: int
    size: int
    value_size: int

    @property
    def copies(self) -> int:
        """How many of it a graph holds: at the lengths that count, one is long already."""
        return 2


Timed = Kernel | Attention
"""Anything that is timed. As it is its own key in a table, it is hashable."""


def write_kernel(path: Path, kernel: Timed, tokens: int) -> dict[str, Any]:
    """Write the graph of a kernel's copies, always the same for the same arguments.

    Args:
        path: The ONNX file.
        kernel: What to time.
        tokens: Length of the input ``[1, tokens, in]``.

    Returns:
        The graph's inputs, as ``timing/worker.py`` takes them.
    """
    if isinstance(kernel, Attention):
        nodes, weights, ends = _attentions(kernel, tokens)
    else:
        nodes, weights, ends = _layers(kernel)
    return _write(path, nodes, weights, ends, _inputs(kernel, tokens))


def _inputs(kernel: Timed, tokens: int) -> dict[str, list[int]]:
    """Name -> shape."""
    if isinstance(kernel, Kernel):
        return {f"x{copy}": [1, tokens, kernel.in_] for copy in range(kernel.copies)}
    widths = {"q": kernel.size, "k": kernel.size, "v": kernel.value_size}
    return {
        f"{name}{copy}": [1, tokens, kernel.heads * width]
        for copy in range(kernel.copies)
        for name, width in widths.items()
    }


def _attentions(kernel: Attention, tokens: int) -> tuple[list[Any], list[Any], list[_End]]:
    import numpy as np
    from onnx import helper, numpy_helper

    # As in an exported model: with a mask that is added, ONNX Runtime takes another path than without one.
    mask = numpy_helper.from_array(np.zeros((1, 1, tokens, tokens), np.float32), "mask")
    nodes = [
        helper.make_node(
            "Attention",
            [f"q{copy}", f"k{copy}", f"v{copy}", "mask"],
            [f"y{copy}"],
            q_num_heads=kernel.heads,
            kv_num_heads=kernel.heads,
        )
        for copy in range(kernel.copies)
    ]
    return nodes, [mask], [(f"y{copy}", 0) for copy in range(kernel.copies)]


def _layers(kernel: Kernel) -> tuple[list[Any], list[Any], list[_End]]:
    import numpy as np
    from onnx import helper, numpy_helper

    draw = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: list[Any] = []
    ends: list[_End] = []

    def weight(name: str, *shape: int) -> str:
        values = draw.normal(size=shape) / shape[0] ** 0.5  # keeps every activation near 1
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    for copy in range(kernel.copies):
        start, width = f"x{copy}", kernel.in_
        if kernel.rank is not None:
            down = weight(f"down{copy}", width, kernel.rank)
            nodes.append(helper.make_node("MatMul", [start, down], [f"inner{copy}"]))
            start, width = f"inner{copy}", kernel.rank
        for place, out in enumerate(kernel.outs):
            name = f"{copy}.{place}"
            nodes += [
                helper.make_node("MatMul", [start, weight(f"up{name}", width, out)], [f"product{name}"]),
                helper.make_node("Add", [f"product{name}", weight(f"bias{name}", out)], [f"y{name}"]),
            ]
            ends.append((f"y{name}", place % out))
    return nodes, weights, ends


def write_stub(path: Path, kernel: Timed, tokens: int) -> dict[str, Any]:
    """Write the same graph without the kernel: what is left is not the kernel's time.

    Args:
        path: The ONNX file.
        kernel: What is timed.
        tokens: Length of the input ``[1, tokens, in]``.

    Returns:
        The graph's inputs, as ``timing/worker.py`` takes them.
    """
    if isinstance(kernel, Attention):
        ends = [(f"v{copy}", 0) for copy in range(kernel.copies)]
    else:
        places = [place % kernel.in_ for place in range(len(kernel.outs))]
        ends = [(f"x{copy}", place) for copy in range(kernel.copies) for place in places]
    return _write(path, [], [], ends, _inputs(kernel, tokens))


def _open(shape: list[int]) -> list[int | str]:
    """Batch and length open, as of an exported model: where they are fixed, ONNX Runtime fuses otherwise."""
    return ["batch", "tokens", *shape[2:]]


def _write(
    path: Path, nodes: list[Any], weights: list[Any], ends: list[_End], inputs: dict[str, list[int]]
) -> dict[str, Any]:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    places = {place: np.array([0, 0, place], np.int64) for _, place in ends}
    for place, first in places.items():
        weights = [
            *weights,
            numpy_helper.from_array(first, f"from{place}"),
            numpy_helper.from_array(first + 1, f"to{place}"),
        ]
    slices = [
        helper.make_node("Slice", [end, f"from{place}", f"to{place}"], [f"one{number}"])
        for number, (end, place) in enumerate(ends)
    ]
    joined = helper.make_node("Concat", [f"one{place}" for place in range(len(ends))], ["ones"], axis=0)
    graph = helper.make_graph(
        [*nodes, *slices, joined],
        "kernel",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, _open(shape))
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info("ones", TensorProto.FLOAT, [len(ends), 1, 1])],
        weights,
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return {name: {"normal": shape} for name, shape in inputs.items()}
