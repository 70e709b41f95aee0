"""Peak resident memory of this process."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def peak_resident_bytes() -> int:
    """The most memory this process has ever had resident, in bytes; 0 where the system does not say.

    Linux gives ``VmHWM``: its ``ru_maxrss`` starts, in a child, at what the parent had when it forked, so
    that the worker of a parent that has loaded torch would report gigabytes.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
        return 0 if found is None else int(found[1]) * 1024
    return _resource_peak_bytes()


def _resource_peak_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the BSDs KiB
