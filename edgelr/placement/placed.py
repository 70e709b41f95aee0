"""Where every node of a graph is placed: as ONNX Runtime recorded it, or as a provider's rules say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgelr.placement.macs import macs_of
from edgelr.placement.operators import ANALYZED
from edgelr.placement.partitions import partitions
from edgelr.placement.rules import Rules, refusal
from edgelr.placement.seen import Node, Value

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CPU = "CPUExecutionProvider"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One node and who runs it.

    Attributes:
        name: In the graph.
        operator: Its type.
        provider: As ONNX Runtime names it.
        macs: Multiply-accumulates of one run.
        part: Number of the part of the graph that it is in, of its provider; None on the CPU.
        reason: Why the device's provider does not take it; None where it does.
    """

    name: str
    operator: str
    provider: str
    macs: int
    part: int | None
    reason: str | None


def analyzed(nodes: Sequence[Node], rules: Rules) -> tuple[Placed, ...]:
    """Place nodes by a provider's rules; the CPU gets what it does not take.

    Args:
        nodes: As the provider sees them.
        rules: The provider's.
    """
    reasons = [refusal(node, rules) for node in nodes]
    parts = partitions(nodes, [reason is None for reason in reasons])
    part_of = {place: number for number, part in enumerate(parts) for place in part}
    return tuple(
        Placed(
            name=node.name,
            operator=node.operator,
            provider=rules.provider if reason is None else CPU,
            macs=macs_of(node),
            part=part_of.get(place),
            reason=reason,
        )
        for place, (node, reason) in enumerate(zip(nodes, reasons, strict=True))
    )


def recorded(session: InferenceSession, nodes: Sequence[Node], provider: str) -> tuple[Placed, ...]:
    """Place nodes as ONNX Runtime did while it opened a session.

    Args:
        session: Opened with ``session.record_ep_graph_assignment_info``.
        nodes: As the provider saw them, for what each costs; one that is not among them costs nothing.
        provider: The device's own.
    """
    known: dict[tuple[str, str], list[Node]] = {}
    for node in reversed(nodes):  # nodes need no name: those of the same operator come in the same order
        known.setdefault((node.name, node.operator), []).append(node)
    found = []
    for number, part in enumerate(session.get_provider_graph_assignment_info()):
        for told in part.get_nodes():
            same = known.get((told.name, _operator(told)))
            seen = same.pop() if same else None
            placed = Placed(
                name=told.name,
                operator=_operator(told),
                provider=part.ep_name,
                macs=0 if seen is None else macs_of(seen),
                part=None if part.ep_name == CPU else number,
                reason=None if part.ep_name == provider else _likely_reason(seen, provider),
            )
            found.append(placed)
    return tuple(found)


def _likely_reason(node: Node | None, provider: str) -> str:
    """Why a provider left a node, which ONNX Runtime does not say: its rules, or what the node is like."""
    if node is None:
        return f"{provider} does not take it"
    rules = ANALYZED.get(provider)
    if rules is not None and (reason := refusal(node, rules)) is not None:
        return reason
    read = ", ".join(_described(value) for value in node.inputs if value is not None)
    return f"{provider} does not take {node.operator} of {read or 'nothing'}"


def _described(value: Value) -> str:
    """Its type and its sizes, an open one as ``?``."""
    if value.shape is None:
        return f"{value.dtype or 'unknown'} of unknown rank"
    sizes = ", ".join("?" if size is None else str(size) for size in value.shape)
    return f"{value.dtype or 'unknown'} [{sizes}]"


def _operator(node: Any) -> str:  # noqa: ANN401 - ONNX Runtime is untyped
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}"
