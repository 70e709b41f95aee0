"""How much memory there is to use."""

from __future__ import annotations

import math
import re
from pathlib import Path

_MEMORY = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")  # of a container


def free_bytes() -> float:
    """Memory that this process may still take, in bytes; infinity where the system does not say."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", _text(_MEMORY), re.MULTILINE)
    limit, used = _text(_GROUP / "memory.max").strip(), _text(_GROUP / "memory.current").strip()
    # What a group has read from files counts as used, and gives way: that it is full says little.
    cached = re.search(r"^file (\d+)$", _text(_GROUP / "memory.stat"), re.MULTILINE)
    left = math.inf
    if limit.isdigit() and used.isdigit():
        left = int(limit) - int(used) + (0 if cached is None else int(cached[1]))
    return min(left, math.inf if found is None else int(found[1]) * 1024)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
