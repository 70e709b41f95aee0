"""Compile a package's graphs ahead of time for the chips of a build: the package's folder ``qnn/<chip>/``.

An app on that chip then loads them at once; it still needs the tokenizer and settings of the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from edgelr.artifacts import CANDIDATE, Package
from edgelr.device.schema import Device
from edgelr.device.session import session_options
from edgelr.runtime.open_graphs import runs_on
from edgelr.runtime.package import COMPILED, model_path
from edgelr.runtime.shapes import fixed_sizes, sizes_of_axes
from edgelr.runtime.variants import own_name
from edgelr.writing import remove, writing


def compile_ahead(packages: Mapping[str, Package], devices: Sequence[Device], out: Path) -> list[Path]:
    """Write one file for each chip, graph and size, to be released with the package that the chip takes.

    Args:
        packages: By name: the candidate, its variants, and baselines.
        devices: Of the build; those that are no chip of Qualcomm's are passed over.
        out: The build's output folder; an earlier ``qnn/`` in it goes.

    Returns:
        The files, in ``out/qnn/<package>/<chip>/``.

    Raises:
        MissingRequirementError: The compiler does not start.
        UnsupportedModelError: A graph cannot be compiled.
        StorageError: ``out`` cannot be written.
    """
    from edgelr.runners.qnn import chip_name, write_context

    with writing(out):
        remove(out / COMPILED)
    chips = {chip_name(device): device for device in devices if device.runner == "qnn"}
    written = []
    for chip, device in chips.items():
        name = own_name(packages, device) or CANDIDATE
        package = packages[name]
        for role, graph in package.graphs.items():
            if runs_on(role, device) is not device:
                continue
            axes = {axis for entry in graph.inputs for axis in entry.shape if isinstance(axis, str)}
            for sizes in sizes_of_axes(fixed_sizes(package), axes):
                shape = "x".join(str(size) for size in sizes.values())
                target = out / COMPILED / name / chip / f"{role}-{shape}.onnx"
                with writing(out):
                    options = partial(session_options, device)
                    write_context(model_path(package, role), device, options, sizes, target)
                written.append(target)
    return written
