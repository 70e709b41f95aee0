"""Stage ort: Package -> Package with ``ort/``: its graphs in ONNX Runtime's own format, and what they need.

A minimal build of ONNX Runtime reads no ONNX file, only this format; a reduced one holds only the operators
that a config file names. Both are for apps that carry ONNX Runtime themselves.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from edgelr.artifacts import Package
from edgelr.errors import ExportError
from edgelr.progress import Progress
from edgelr.runtime.package import ORT, precisions
from edgelr.runtime.package_copy import copy_files, seal_again
from edgelr.writing import writing

CONFIG = "required_operators_and_types.config"
_LEVEL = "ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL"  # the tool has no argument for it
_BASIC = ".basic."  # what it puts into names of files then


def write_ort(package: Package, folder: Path, progress: Progress) -> Package:
    """Copy a package, with each of its graphs in ONNX Runtime's format as well.

    The files hold the graph as ONNX Runtime has optimized it, so that they open at once; which tables in them
    come first depends on addresses in memory, so they are not the same bytes each time.

    Args:
        package: Of any task and precision.
        folder: Where the copy is written.
        progress: Where to say what it found.

    Raises:
        ExportError: ONNX Runtime cannot write a graph in its format.
        StorageError: The folder cannot be written.
    """
    with writing(folder):
        copy_files(package, folder)
        # Beyond basic ones, products of 16 bits become such of 8 (see device/session.py), for good.
        with _level("basic" if "a16w8" in precisions(package) else "all"):
            _convert(folder, package.name)
        sealed = seal_again(package, folder)
    for file in sealed.files:
        if file.startswith(ORT):
            progress.note(f"{file}: {(folder / file).stat().st_size:,} bytes")
    return sealed


def _convert(folder: Path, name: str) -> None:
    with _silence():
        from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

        try:
            convert_onnx_models_to_ort(
                folder,
                folder / ORT,
                [OptimizationStyle.Fixed],
                # Without layouts that only x86 has: it runs there too, phones are what this is for.
                target_platform="arm",
                enable_type_reduction=True,
            )
        except (RuntimeError, ValueError) as error:
            raise ExportError(
                f"ONNX Runtime does not write {name} in its own format: {error}",
                "take export.ort_format out of the recipe",
            ) from error
    for file in (folder / ORT).iterdir():
        file.rename(file.with_name(file.name.replace(_BASIC, ".")))
    _without_places(folder / ORT / CONFIG)


@contextlib.contextmanager
def _level(name: str) -> Iterator[None]:
    """Let the tool optimize so much."""
    before = os.environ.get(_LEVEL)
    os.environ[_LEVEL] = name
    try:
        yield
    finally:
        del os.environ[_LEVEL]
        if before is not None:
            os.environ[_LEVEL] = before


def _without_places(config: Path) -> None:
    """The config names the files that it is of by where they were written."""
    lines = config.read_text(encoding="utf-8").splitlines()
    named = [
        f"# - {Path(line).name}".replace(_BASIC, ".") if line.startswith("# - ") else line for line in lines
    ]
    config.write_text("\n".join(named) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The tool prints, and adds a handler to the root logger when it is imported."""
    root, disabled = logging.getLogger(), logging.root.manager.disable
    handlers = list(root.handlers)
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.handlers[:] = handlers
        logging.disable(disabled)
