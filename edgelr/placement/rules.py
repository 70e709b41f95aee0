"""What a provider asks of a node before it takes it, and the reason where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgelr.placement.seen import Node, Value

FLOATS = ("float", "float16")


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What an operator has to be like.

    Attributes:
        types: Of its inputs named by ``typed``; any when empty.
        typed: Places of the inputs whose type counts.
        constant: Places of the inputs that have to be weights, where they are given.
        constant_unless_int32: Likewise, but an int32 may be computed.
        ranks: Of its first input; any when empty.
        last_axis: Whether it has to work along the last axis.
    """

    types: tuple[str, ...] = FLOATS
    typed: tuple[int, ...] = (0,)
    constant: tuple[int, ...] = ()
    constant_unless_int32: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()
    last_axis: bool = False


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a provider takes.

    Attributes:
        provider: As ONNX Runtime names it.
        operators: Operator -> what it has to be like; all others are left to the CPU.
        fixed_shapes: Whether all sizes of all inputs have to be known.
        highest_rank: Of any input.
    """

    provider: str
    operators: Mapping[str, Needs]
    fixed_shapes: bool
    highest_rank: int


def refusal(node: Node, rules: Rules) -> str | None:
    """Why a provider leaves a node to the CPU; None when it takes it.

    Args:
        node: As the provider sees it.
        rules: The provider's.
    """
    needs = rules.operators.get(node.operator)
    if needs is None:
        return f"operator {node.operator} is not supported"
    inputs = [value for value in node.inputs if value is not None]
    for value in inputs:
        if rules.fixed_shapes and not value.fixed:
            return f"dynamic shape of {value.name}"
        if len(value.shape or ()) > rules.highest_rank:
            return f"rank {len(value.shape or ())} of {value.name} is above {rules.highest_rank}"
    return _unmet(node, needs)


def _unmet(node: Node, needs: Needs) -> str | None:
    for place in needs.typed:
        value = _at(node, place)
        if needs.types and value is not None and value.dtype not in needs.types:
            return f"type {value.dtype or 'unknown'} of input {place}"
    for place in needs.constant:
        value = _at(node, place)
        if value is not None and not value.constant:
            return f"input {place} is not constant"
    for place in needs.constant_unless_int32:
        value = _at(node, place)
        if value is not None and not value.constant and value.dtype != "int32":
            return f"input {place} is neither constant nor int32"
    first = _at(node, 0)
    rank = None if first is None or first.shape is None else len(first.shape)
    if needs.ranks and rank not in needs.ranks:
        return f"rank {'unknown' if rank is None else rank} of input 0"
    if needs.last_axis and node.attributes.get("axis", -1) not in (-1, None if rank is None else rank - 1):
        return f"axis {node.attributes['axis']} is not the last one"
    return None


def _at(node: Node, place: int) -> Value | None:
    return node.inputs[place] if place < len(node.inputs) else None
