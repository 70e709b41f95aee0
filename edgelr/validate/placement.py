"""Which provider takes which nodes of a variant's graphs, and which nodes fall back: rows for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.placement.fallback import FallbackRow
from edgelr.placement.macs import macs_of
from edgelr.placement.operators import ANALYZED
from edgelr.placement.placed import Placed, analyzed, recorded
from edgelr.placement.seen import seen_graph
from edgelr.runtime.open_graphs import runs_on
from edgelr.runtime.package import model_path
from edgelr.runtime.shapes import fixed_sizes
from edgelr.verdict import PlacementRow

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

RECORD = {"session.record_ep_graph_assignment_info": "1"}
"""Config entries that a session has to be opened with."""


def analyzed_graphs(package: Package, device: Device) -> list[tuple[Placed, ...]]:
    """Place the nodes of a package's graphs by the rules of a device's provider; nothing is run.

    Args:
        package: Any variant.
        device: With static evidence.

    Returns:
        Of each graph, its nodes; empty for a provider that there are no rules of.

    Raises:
        UnsupportedModelError: A graph cannot be read.
    """
    rules = ANALYZED.get(device.provider)
    if rules is None:
        return []
    sizes = sizes_of(package, device)
    return [analyzed(seen_graph(model_path(package, role), sizes), rules) for role in package.graphs]


def recorded_graphs(
    package: Package, device: Device, sessions: Mapping[str, InferenceSession]
) -> list[tuple[Placed, ...]]:
    """Place the nodes of a package's graphs as ONNX Runtime did.

    Args:
        package: Any variant.
        device: Where its graphs are open.
        sessions: By role, opened with ``RECORD`` among their entries.

    Returns:
        Of each graph that the device is given, its nodes.

    Raises:
        UnsupportedModelError: A graph cannot be read.
    """
    sizes = sizes_of(package, device)
    return [
        recorded(session, seen_graph(model_path(package, role), sizes), device.provider)
        for role, session in sessions.items()
        if runs_on(role, device) is device
    ]


def beside_note(package: Package, device: Device) -> str | None:
    """Say which graphs of a package run on the CPU beside a device, and how much of the work that is.

    Args:
        package: Any variant.
        device: Where it runs.

    Returns:
        A note; None where the device is given all of them.

    Raises:
        UnsupportedModelError: A graph cannot be read.
    """
    macs = {
        role: sum(macs_of(node) for node in seen_graph(model_path(package, role), sizes_of(package, device)))
        for role in package.graphs
    }
    beside = [role for role in package.graphs if runs_on(role, device) is not device]
    if not beside:
        return None
    files = ", ".join(package.graphs[role].file for role in beside)
    share = sum(macs[role] for role in beside) / max(sum(macs.values()), 1)
    return (
        f"{files} stays fp32 and runs on the CPU beside {device.name}, {share:.2f} of the work of a window "
        "and a token; placement is that of the other graphs"
    )


def sizes_of(package: Package, device: Device) -> dict[str, int]:
    """Sizes of the axes that a device fixes, the largest it runs the package at; none where it fixes none."""
    return fixed_sizes(package)[-1] if device.shapes == "fixed" else {}


def placement_rows(
    graphs: Sequence[Sequence[Placed]], *, variant: str, device: Device
) -> tuple[PlacementRow, ...]:
    """Count what each provider took, of all graphs of a variant.

    Args:
        graphs: Of each, its nodes.
        variant: What the rows name.
        device: What the rows name.

    Returns:
        One row a provider, the one with most nodes first, and one of the device's own even when it took
        nothing; shares are of nodes as they were when placed, before the provider fuses its own. Graphs
        without a node have no row.
    """
    nodes = [node for graph in graphs for node in graph]
    if not nodes:
        return ()
    total = sum(node.macs for node in nodes)
    rows = []
    for provider in {device.provider, *(node.provider for node in nodes)}:
        own = [node for node in nodes if node.provider == provider]
        macs = sum(node.macs for node in own)
        parts = {
            (number, node.part)
            for number, graph in enumerate(graphs)
            for node in graph
            if node.provider == provider and node.part is not None
        }
        row = PlacementRow(
            variant=variant,
            device=device.name,
            evidence=device.evidence,
            provider=provider,
            nodes=len(own),
            share=len(own) / len(nodes),
            macs_share=macs / total if total else None,
            partitions=len(parts) or None,
        )
        rows.append(row)
    return tuple(sorted(rows, key=lambda row: (-row.nodes, row.provider)))


def fallback_rows(
    graphs: Sequence[Sequence[Placed]], *, variant: str, device: str
) -> tuple[FallbackRow, ...]:
    """Name every node that the device's provider does not take, and why; the costliest first.

    Args:
        graphs: Of each, its nodes.
        variant: What the rows name.
        device: What the rows name.
    """
    nodes = [node for graph in graphs for node in graph]
    total = sum(node.macs for node in nodes)
    return tuple(
        FallbackRow(
            variant=variant,
            device=device,
            node=node.name,
            operator=node.operator,
            macs_share=node.macs / total if total else None,
            reason=node.reason,
        )
        for node in sorted(nodes, key=lambda node: -node.macs)
        if node.reason is not None
    )
