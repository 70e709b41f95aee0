"""Which provider takes which nodes of a graph, as ONNX Runtime records it while opening the session."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edgelr.artifacts import PlacementRow

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

RECORD = {"session.record_ep_graph_assignment_info": "1"}
"""Config entries that a session has to be opened with."""


def placement_rows(*sessions: InferenceSession, variant: str, device: str) -> tuple[PlacementRow, ...]:
    """Count the nodes that each provider took, of all graphs of a variant.

    Args:
        sessions: Opened with ``RECORD`` among its entries.
        variant: What the rows name.
        device: What the rows name.

    Returns:
        One row a provider, the one with most nodes first; shares are of nodes as they were when placed,
        before the provider fuses its own. Graphs without a node have no row.
    """
    nodes: Counter[str] = Counter()
    for session in sessions:
        for part in session.get_provider_graph_assignment_info():
            nodes[part.ep_name] += len(part.get_nodes())
    total = nodes.total()
    return tuple(
        PlacementRow(variant=variant, device=device, provider=provider, nodes=count, share=count / total)
        for provider, count in sorted(nodes.items(), key=lambda entry: (-entry[1], entry[0]))
    )
