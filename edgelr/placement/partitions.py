"""Parts that a provider gets: as few runs of nodes that it takes as the order of the graph allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from edgelr.placement.seen import Node


def partitions(nodes: Sequence[Node], taken: Sequence[bool]) -> list[list[int]]:
    """Group the nodes that a provider takes, as ONNX Runtime does.

    A part grows by every node that can run next. A node that is not taken waits for the part to end when it
    reads what the part gives, and else runs at once, for it may let more nodes into the part.

    Args:
        nodes: In any order.
        taken: Of each, whether the provider takes it.

    Returns:
        Positions of the nodes of each part; a node that is not taken is in none.
    """
    readers = _readers(nodes)
    waiting_for = [0] * len(nodes)
    for following in readers:
        for reader in following:
            waiting_for[reader] += 1
    ready = deque(place for place, count in enumerate(waiting_for) if count == 0)
    held: deque[int] = deque()
    parts: list[list[int]] = []
    part: list[int] = []
    border: set[int] = set()
    while ready or held:
        if not ready:
            parts += [part] if part else []
            part, border, ready, held = [], set(), held, deque()
            continue
        place = ready.popleft()
        if not taken[place] and place in border:
            held.append(place)
            continue
        if taken[place]:
            part.append(place)
            border |= readers[place]
        for reader in readers[place]:
            waiting_for[reader] -= 1
            if waiting_for[reader] == 0:
                ready.append(reader)
    return [*parts, part] if part else parts


def _readers(nodes: Sequence[Node]) -> list[set[int]]:
    """Of each node, those that read what it gives."""
    givers = {
        value.name: place for place, node in enumerate(nodes) for value in node.outputs if value is not None
    }
    readers: list[set[int]] = [set() for _ in nodes]
    for place, node in enumerate(nodes):
        for value in node.inputs:
            if value is not None and value.name in givers:
                readers[givers[value.name]].add(place)
    return readers
