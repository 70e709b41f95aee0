"""Which module opens a graph that is not run by this process's own ONNX Runtime and providers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelr.device.schema import Device
from edgelr.errors import UsageError
from edgelr.runners.fixed import file_entries
from edgelr.runners.protocol import OpenGraph


def open_elsewhere(
    model: Path,
    device: Device,
    entries: Mapping[str, str],
    options: Callable[[], Any],
    sizes: Sequence[Mapping[str, int]],
) -> OpenGraph:
    """Open a graph where the profile's runner runs it.

    Args:
        model: The ONNX file.
        device: The profile.
        entries: Session config entries, those of the profile among them.
        options: Makes session options of the profile, for what runs in this process after all.
        sizes: Of axes, for hardware that takes no open one; smallest first.

    Raises:
        MissingRequirementError: What runs it does not start.
        UnsupportedModelError: It cannot be run there.
        UsageError: The profile says in-process.
    """
    match device.runner:
        case "qnn":
            from edgelr.runners.qnn import open_qnn

            return open_qnn(model, device, options, sizes, *file_entries(model))
        case "arm64":
            from edgelr.runners.arm64 import open_arm64

            return open_arm64(model, device, entries)
        case "web":
            from edgelr.runners.web import open_web

            return open_web(model, device, entries)
        case "ssh":
            from edgelr.runners.ssh import open_ssh

            return open_ssh(model, device, entries)
        case "in-process":
            raise UsageError(f"device '{device.name}' runs in this process")
