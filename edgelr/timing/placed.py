"""Which provider takes each node of graphs, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def placed_nodes(sessions: Mapping[str, InferenceSession]) -> dict[str, str]:
    """Node -> provider, of all graphs.

    Args:
        sessions: By role, opened to record it (``RECORD`` of ``validate/placement.py``).

    Returns:
        Nodes as they were when placed, before the provider fuses its own: ``role/name (kind)``. Nodes without
        a name cannot be told from others and are left out.
    """
    return {
        f"{role}{'/' if role else ''}{node.name} ({node.op_type})": part.ep_name
        for role, session in sessions.items()
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
        if node.name
    }
