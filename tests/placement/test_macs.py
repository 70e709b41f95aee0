"""Multiply-accumulates of a node, against sums written out by hand."""

import pytest

from edgelr.placement.macs import macs_of
from edgelr.placement.seen import Node, Value


def node(
    operator: str, inputs: list[tuple[int | None, ...]], output: tuple[int | None, ...], **more: object
) -> Node:
    return Node(
        name="n",
        operator=operator,
        inputs=tuple(
            Value(name=f"i{place}", dtype="float", shape=shape) for place, shape in enumerate(inputs)
        ),
        outputs=(Value(name="o", dtype="float", shape=output),),
        attributes=more,
    )


@pytest.mark.parametrize(
    ("given", "macs"),
    [
        (node("MatMul", [(2, 5, 8), (8, 3)], (2, 5, 3)), 2 * 5 * 8 * 3),
        (node("MatMul", [(2, 4, 5, 8), (2, 4, 8, 5)], (2, 4, 5, 5)), 2 * 4 * 5 * 8 * 5),
        (node("com.microsoft:FusedMatMul", [(8, 5), (8, 3)], (5, 3), transA=1), 5 * 8 * 3),
        (node("com.microsoft:MatMulNBits", [(1, 7, 64), (3, 2, 16)], (1, 7, 3)), 7 * 64 * 3),
        (node("Gemm", [(5, 8), (8, 3), (3,)], (5, 3)), 5 * 8 * 3),
        (node("Gemm", [(8, 5), (8, 3)], (5, 3), transA=1), 5 * 8 * 3),
        (node("Conv", [(1, 4, 10), (6, 4, 3), (6,)], (1, 6, 8)), 6 * 8 * 4 * 3),
        (node("Conv", [(1, 4, 9, 9), (4, 1, 3, 3)], (1, 4, 7, 7)), 4 * 7 * 7 * 9),
        (node("ConvTranspose", [(1, 4, 10), (4, 6, 3)], (1, 6, 12)), 4 * 10 * 6 * 3),
        (node("QLinearMatMul", [(5, 8), (), (), (8, 3), (), (), (), ()], (5, 3)), 5 * 8 * 3),
        (
            node("com.microsoft:MultiHeadAttention", [(1, 5, 8), (1, 5, 8), (1, 5, 6)], (1, 5, 6)),
            5 * 5 * (8 + 6),
        ),
        (
            node("com.microsoft:MultiHeadAttention", [(1, 1, 8), (1, 2, 9, 4), (1, 2, 9, 4)], (1, 1, 8)),
            9 * (8 + 8),
        ),
        (node("Attention", [(1, 5, 8), (1, 5, 8), (1, 5, 6), (1, 1, 5, 5)], (1, 5, 6)), 5 * 5 * (8 + 6)),
        (node("Add", [(5, 8), (8,)], (5, 8)), 0),
    ],
)
def test_a_node_costs_what_it_multiplies(given: Node, macs: int) -> None:
    assert macs_of(given) == macs


def test_an_open_size_counts_as_one() -> None:
    assert macs_of(node("MatMul", [(None, None, 8), (8, 3)], (None, None, 3))) == 8 * 3


def test_what_is_not_known_costs_nothing() -> None:
    unknown = Value(name="u", dtype="", shape=None)
    assert macs_of(Node(name="n", operator="MatMul", inputs=(unknown, unknown), outputs=(unknown,))) == 0
    assert macs_of(Node(name="n", operator="Conv", inputs=(unknown, unknown), outputs=(unknown,))) == 0
    assert macs_of(node("com.microsoft:MultiHeadAttention", [(1, 5, 24)], (1, 5, 8))) == 0
