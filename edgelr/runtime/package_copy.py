"""A package made of another: its files copied, then sealed again with what is different."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgelr.artifacts import Package
from edgelr.runtime.package import seal_package


def copy_files(package: Package, folder: Path, files: Iterable[str] | None = None) -> None:
    """Copy files of a package into another folder, where the package says that they are.

    Args:
        package: Not changed.
        folder: Exists already.
        files: Names of some of them; all when None.
    """
    for file in package.files if files is None else files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package.folder / file, folder / file)


def seal_again(package: Package, folder: Path, variants: Sequence[str] = ()) -> Package:
    """Write ``package.json`` over the files in a folder, with all else as a package says.

    Args:
        package: Says it; its own folder, list of files and variants do not count.
        folder: Holds every file of the new package.
        variants: Folders in it that are sealed packages of their own.

    Returns:
        The new package.

    Raises:
        DamagedArtifactError: A graph is missing, or its external data is elsewhere, or there is a link.
        StorageError: The manifest cannot be written.
    """
    return seal_package(
        folder,
        name=package.name,
        task=package.task,
        graphs=package.graphs,
        precision=package.precision,
        cost=package.cost,
        settings=package.settings,
        source=package.source,
        gates=package.gates,
        accuracy=package.accuracy,
        variants=variants,
    )
