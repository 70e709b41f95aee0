"""Which cores a timed process runs on: always the same ones, so that no migration is part of a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")


def choose_cpus(threads: int, topology: Path = _TOPOLOGY) -> list[int]:
    """The logical CPUs for a session of so many threads: of different cores first, the highest first.

    Interrupts and whatever else the system does go to the lowest ones more often.

    Args:
        threads: At least 1.
        topology: Where Linux says which CPUs are of one core.

    Returns:
        CPU numbers, rising; empty where the system has no affinity, or where all are needed anyway.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    usable = sorted(os.sched_getaffinity(0), reverse=True)
    if threads >= len(usable):
        return []
    rank: dict[str, int] = {}  # how many of a core were met before

    def of_its_core(cpu: int) -> int:
        core = _core(cpu, topology)
        rank[core] = rank.get(core, -1) + 1
        return rank[core]

    return sorted(sorted(usable, key=of_its_core)[:threads])


def pin(cpus: Sequence[int]) -> bool:
    """Let this process, and the threads that it will start, run on these CPUs only.

    Args:
        cpus: As of ``choose_cpus``; none changes nothing.

    Returns:
        Whether that is so now; a container or a policy may not allow it.
    """
    if not cpus or not hasattr(os, "sched_setaffinity"):
        return False
    try:
        os.sched_setaffinity(0, cpus)
    except OSError:
        return False
    return True


def _core(cpu: int, topology: Path) -> str:
    try:
        return (topology / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return f"{cpu}"  # not told: each is a core of its own
