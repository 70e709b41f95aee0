"""The graphs of a package, open on a device, or on the CPU beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.runtime.package import FEATURES, model_path, session_entries
from edgelr.runtime.shapes import fixed_sizes

_BESIDE = "cpu-1t"


def runs_on(role: str, device: Device) -> Device:
    """Where a graph of a package runs: on the device, or on a core of the CPU beside it.

    The features of sound stay fp32 whatever the other graphs become. An NPU that takes no fp32 leaves them to
    its CPU, as in an app.

    Args:
        role: Of the graph.
        device: Where the package runs.
    """
    integers_only = device.shapes == "fixed" and "fp32" not in device.accepts
    return load_devices()[_BESIDE] if role == FEATURES and integers_only else device


def open_graphs(
    package: Package,
    device: Device,
    roles: Iterable[str],
    entries: Mapping[str, str] = {},
    profile: Path | None = None,
) -> dict[str, Any]:
    """Open graphs of a package with the settings measured as best for the device.

    Args:
        package: As opened by ``open_package``.
        device: Where they run.
        roles: Of the graphs.
        entries: Session settings on top of the package's and the device's.
        profile: Start of the names of profiles, one a role; none are made when None.

    Returns:
        By role.

    Raises:
        DamagedArtifactError: A graph or ``session.json`` is unusable.
        MissingRequirementError: The device's provider is not here.
        UnsupportedModelError: The device does not take a graph.
    """
    sizes = fixed_sizes(package)
    opened = {}
    for role in roles:
        there = runs_on(role, device)
        opened[role] = open_session(
            model_path(package, role),
            there,
            entries={**session_entries(package, there.name), **entries},
            profile=None if profile is None else profile.with_name(f"{profile.name}-{role}"),
            sizes=sizes,
        )
    return opened
