"""What each kind of operator takes, by ONNX Runtime's own profile of the sessions that were called."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def operator_times(sessions: Mapping[str, InferenceSession], calls: int) -> dict[str, float]:
    """End the profiles of sessions and add them up.

    Args:
        sessions: By role, each opened with a profile; the one role ``""`` stands for a graph alone.
        calls: How many calls of the whole there were, of a translation for example.

    Returns:
        Kind of operator -> milliseconds a call; with its role in front where there are several graphs.
    """
    spent: Counter[str] = Counter()
    for role, session in sessions.items():
        path = Path(session.end_profiling())
        events = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                spent[f"{role} {event['args']['op_name']}".lstrip()] += event["dur"]
    return {name: micros / 1e3 / calls for name, micros in spent.items()}
