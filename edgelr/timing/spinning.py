"""Threads that look for work while they wait: how long they may where sessions are timed in turn."""

from __future__ import annotations

from collections.abc import Mapping

SPINNING, SPIN_US = "session.intra_op.allow_spinning", "session.intra_op.spin_duration_us"
_LONGEST_US = 1000  # over before the next session is timed


def calmed(entries: Mapping[str, str]) -> dict[str, str]:
    """Session settings whose threads leave the cores to the session that is timed next.

    Args:
        entries: Session settings, of ONNX Runtime.

    Returns:
        The same; without spinning, unless it ends by itself soon enough.
    """
    wait = entries.get(SPIN_US, "")
    ends = wait.isdecimal() and int(wait) <= _LONGEST_US
    return dict(entries) if ends else {**entries, SPINNING: "0"}
