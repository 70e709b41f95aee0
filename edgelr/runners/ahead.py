"""Compile a package's graphs ahead of time for the chips of a build, beside the package: ``qnn/<chip>/``.

An app on that chip then loads them at once; it still needs the tokenizer and settings of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import session_options
from edgelr.runtime.package import model_path
from edgelr.runtime.shapes import fixed_sizes
from edgelr.writing import writing

FOLDER = "qnn"


def compile_ahead(package: Package, devices: Sequence[Device], out: Path) -> list[Path]:
    """Write one file for each chip, graph and size.

    Args:
        package: Released.
        devices: Of the build; those that are no chip of Qualcomm's are passed over.
        out: The build's output folder.

    Returns:
        The files.

    Raises:
        MissingRequirementError: The compiler does not start.
        UnsupportedModelError: A graph cannot be compiled.
        StorageError: ``out`` cannot be written.
    """
    written = []
    for device in devices:
        if device.runner != "qnn":
            continue
        from edgelr.runners.qnn import write_context

        for role in package.graphs:
            for sizes in fixed_sizes(package):
                shape = "x".join(str(size) for size in sizes.values())
                target = out / FOLDER / device.name.removeprefix("qnn-") / f"{role}-{shape}.onnx"
                with writing(out):
                    write_context(model_path(package, role), device, session_options(device), sizes, target)
                written.append(target)
    return written
