"""The graphs of a package, opened to be timed: with further settings, and with profiles where asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.runtime.package import model_path, session_entries

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def package_sessions(
    package: Package,
    device: Device,
    roles: Sequence[str],
    entries: Mapping[str, str],
    profile: Path | None,
) -> dict[str, InferenceSession]:
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
    """
    wanted = {**session_entries(package, device.name), **entries}
    return {
        role: open_session(
            model_path(package, role),
            device,
            entries=wanted,
            profile=None if profile is None else profile.with_name(f"{profile.name}-{role}"),
        )
        for role in roles
    }
