"""A baseline is a package in one file, for the cache or the artifacts of a CI: never a time.

A time that was measured on another machine, or on this one yesterday, says nothing; the package can be
measured again, next to the candidate.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from edgelr.errors import DamagedArtifactError, UsageError
from edgelr.runtime.package import MANIFEST, SESSION, open_package
from edgelr.writing import remove, replace_folder, writing

_AGAIN = "save it again with edgelr baseline save"


def save_baseline(package: Path, file: Path) -> int:
    """Write a package into one file; the same package gives the same bytes.

    Args:
        package: Its folder, checked before anything is written.
        file: A ``.tar.gz``; one that is there is replaced.

    Returns:
        Bytes of the file.

    Raises:
        UsageError: There is no package.
        DamagedArtifactError: It does not match its manifest.
        StorageError: The file cannot be written.
    """
    names = [MANIFEST, SESSION, *open_package(package).files]
    # A package may lack its settings, and the sounds of its accuracy test.
    present = [name for name in sorted(names) if (package / name).is_file()]
    fresh = file.with_name(f".{file.name}.new")
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with fresh.open("wb") as raw:
                _pack(package, present, raw)
                os.fsync(raw.fileno())
            fresh.replace(file)
        finally:
            remove(fresh)
    return file.stat().st_size


def _pack(folder: Path, names: Sequence[str], raw: BinaryIO) -> None:
    """Neither dates nor owners: they would make every archive another one."""
    with (
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = (folder / name).stat().st_size
            with (folder / name).open("rb") as content:
                archive.addfile(entry, content)


def load_baseline(file: Path, folder: Path) -> Path:
    """Unpack a baseline, and check it.

    Args:
        file: As ``save_baseline`` wrote it; perhaps a stranger's, so nothing leaves the folder.
        folder: New or empty.

    Returns:
        The folder, a package.

    Raises:
        UsageError: There is no such file, or something is in the folder.
        DamagedArtifactError: The file is no baseline, or was changed.
        StorageError: The folder cannot be written.
    """
    if not file.is_file():
        raise UsageError(f"there is no baseline at {file}", _AGAIN)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: there is something already", "give a folder that is new or empty")
    with tempfile.TemporaryDirectory(prefix="edgelr-") as scratch:
        try:
            with tarfile.open(file, "r:gz") as archive:
                archive.extractall(scratch, filter="data")
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise DamagedArtifactError(f"{file} cannot be unpacked: {error}", _AGAIN) from error
        if not Path(scratch, MANIFEST).is_file():
            raise DamagedArtifactError(f"{file} has no package in it", _AGAIN)
        open_package(Path(scratch))
        replace_folder(Path(scratch), folder)
    return folder
