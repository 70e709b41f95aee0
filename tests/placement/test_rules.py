"""Each reason for which a provider leaves a node to the CPU."""

from typing import Any

import pytest

from edgelr.placement.rules import Needs, Rules, refusal
from edgelr.placement.seen import Node, Value

RULES = Rules(
    provider="NpuExecutionProvider",
    operators={
        "Add": Needs(),
        "Cast": Needs(types=()),
        "Conv": Needs(constant=(1, 2), ranks=(4,)),
        "Gather": Needs(types=("float", "int64"), constant_unless_int32=(1,)),
        "Softmax": Needs(last_axis=True),
        "Where": Needs(typed=(1, 2)),
    },
    fixed_shapes=True,
    highest_rank=4,
)


def value(name: str = "x", dtype: str = "float", shape: Any = (1, 2), constant: bool = False) -> Value:
    return Value(name=name, dtype=dtype, shape=shape, constant=constant)


def why(operator: str, *inputs: Value | None, **attributes: object) -> str | None:
    return refusal(
        Node(name="n", operator=operator, inputs=inputs, outputs=(value("y"),), attributes=attributes), RULES
    )


def test_what_meets_every_need_is_taken() -> None:
    image, weight = value(shape=(1, 2, 3, 4)), value("w", shape=(2, 2, 1, 1), constant=True)
    assert why("Add", value(), value(dtype="float16")) is None
    assert why("Cast", value(dtype="int64")) is None
    assert why("Conv", image, weight) is None, "a bias may be left out"
    assert why("Conv", image, weight, value("b", shape=(2,), constant=True)) is None
    assert why("Gather", value(dtype="int64"), value(dtype="int32")) is None
    assert why("Softmax", value(shape=(1, 2)), axis=1) is None
    assert why("Where", value(dtype="bool"), value(), value()) is None


@pytest.mark.parametrize(
    ("reason", "operator", "inputs", "attributes"),
    [
        ("operator com.microsoft:Gelu is not supported", "com.microsoft:Gelu", (value(),), {}),
        ("dynamic shape of x", "Add", (value(shape=(None, 2)), value()), {}),
        ("dynamic shape of x", "Add", (value(shape=None), value()), {}),
        ("rank 5 of x is above 4", "Add", (value(shape=(1, 1, 1, 1, 1)), value()), {}),
        ("type int64 of input 0", "Add", (value(dtype="int64"), value()), {}),
        ("type unknown of input 0", "Add", (value(dtype=""), value()), {}),
        ("type int64 of input 1", "Where", (value(dtype="bool"), value(dtype="int64"), value()), {}),
        ("input 1 is not constant", "Conv", (value(shape=(1, 2, 3, 4)), value()), {}),
        ("rank 2 of input 0", "Conv", (value(), value(constant=True)), {}),
        ("input 1 is neither constant nor int32", "Gather", (value(), value(dtype="int64")), {}),
        ("axis 0 is not the last one", "Softmax", (value(),), {"axis": 0}),
    ],
)
def test_what_does_not_says_why(
    reason: str, operator: str, inputs: tuple[Value, ...], attributes: dict[str, object]
) -> None:
    assert why(operator, *inputs, **attributes) == reason


def test_an_input_that_is_left_out_is_no_fault() -> None:
    assert why("Add", value(), None) is None
