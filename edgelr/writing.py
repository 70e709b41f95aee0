"""Writing so that a kill, a full disk or a read-only folder never leaves half a file.

Everything is written beside its place, flushed to the disk, and renamed into it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

from edgelr.errors import DamagedArtifactError, EdgelrError, StorageError

_ALWAYS_ABOUT_WRITING = {
    errno.ENOSPC: ("the disk is full", "free some space, or choose a folder on another disk"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or choose a folder on another disk"),
    errno.EFBIG: ("a file would be larger than is allowed here", "raise the limit, or choose another folder"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
}
_MAYBE_ABOUT_READING = {
    errno.EACCES: ("permission denied", "make it writable, or choose another folder"),
    errno.EPERM: ("not permitted", "make it writable, or choose another folder"),
    errno.ENOTDIR: ("a file is in the place of a folder", "move the file away, or choose another folder"),
    errno.ENOTEMPTY: ("a folder in the way cannot be removed", "remove it, or choose another folder"),
    errno.EEXIST: ("a file is in the place of a folder", "move the file away, or choose another folder"),
}
_ONE_BLOCK_BYTES = 4096
STORE_ONLY = frozenset({"manifest.json"})


def writing(folder: Path) -> AbstractContextManager[None]:
    """Turn the ways in which writing to ``folder`` can fail into one clear error.

    Libraries that report a full disk in their own words (safetensors, NumPy, PyTorch) are understood as well.
    A file that cannot be *read*, outside the folder, is not this error's business and passes unchanged.

    Raises:
        StorageError: From the ``with`` block: full, read-only, forbidden, or a file where a folder should be.
    """
    return _Writing(folder)


class _Writing:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, EdgelrError):
            return
        fault = _fault(error, self._folder)
        if fault is not None:
            reason, hint = fault
            name = getattr(error, "filename", None)
            where = f" ({name})" if name is not None and str(name) != str(self._folder) else ""
            raise StorageError(f"cannot write to {self._folder}: {reason}{where}", hint) from error


def _fault(error: Exception, folder: Path) -> tuple[str, str] | None:
    full = _ALWAYS_ABOUT_WRITING[errno.ENOSPC]
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno in _MAYBE_ABOUT_READING and _concerns(error, folder):
            return _MAYBE_ABOUT_READING[error.errno]
        return _ALWAYS_ABOUT_WRITING.get(error.errno)
    if "No space left on device" in str(error) or "os error 28" in str(error):
        return full
    # NumPy ("8192 requested and 512 written") and PyTorch ("unexpected pos") do not say why a write stopped.
    stopped = isinstance(error, OSError | RuntimeError) and folder.is_dir()
    return full if stopped and shutil.disk_usage(folder).free < _ONE_BLOCK_BYTES else None


def _concerns(error: OSError, folder: Path) -> bool:
    if error.filename is None:
        return True
    place, home = Path(str(error.filename)).resolve(), folder.resolve()
    return place.is_relative_to(home) or home.is_relative_to(place)


def atomic_write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all; folders on the way are made.

    Raises:
        StorageError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            remove(temporary)


def replace_folder(source: Path, target: Path, leave_out: frozenset[str] = STORE_ONLY) -> None:
    """Put a copy of a finished folder at ``target``, in place of what was there.

    The copy is complete and on the disk before the old folder moves, so that ``target`` is at every moment
    the old folder, the new one or (after a kill between two renames) absent, never a mixture.

    Args:
        source: The folder to copy; it is not changed.
        target: Where it goes.
        leave_out: Top-level names not to copy. The store's manifest holds build times, which differ from
            build to build, while a package is the same bytes wherever it is built.

    Raises:
        StorageError: The target cannot be written; what was there is still there.
        DamagedArtifactError: The source holds a link, or something else that is not a plain file.
    """
    from filelock import FileLock

    fresh = target.with_name(f".{target.name}.new")
    old = target.with_name(f".{target.name}.old")
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            remove(fresh)  # left by a killed build
            try:
                _copy(source, fresh, leave_out)
                sync_tree(fresh)
                _swap(fresh, target, old)
            finally:
                remove(fresh)


def _copy(source: Path, target: Path, leave_out: frozenset[str]) -> None:
    target.mkdir()
    for path in plain_files(source):
        name = path.relative_to(source)
        if name.as_posix() not in leave_out:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def _swap(fresh: Path, target: Path, old: Path) -> None:
    if os.path.lexists(target):
        remove(old)
        target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        if os.path.lexists(old):
            old.rename(target)
        raise
    sync_folder(target.parent)
    remove(old)


def plain_files(folder: Path) -> Iterator[Path]:
    """Yield every file below ``folder``, sorted by name.

    Raises:
        DamagedArtifactError: There is a link, a device or a pipe: nothing of an artifact may lead elsewhere.
    """
    for path in sorted(folder.iterdir()):
        if not path.is_symlink() and path.is_dir():
            yield from plain_files(path)
        elif not path.is_symlink() and path.is_file():
            yield path
        else:
            raise DamagedArtifactError(f"{path} is a link or not a plain file", "delete it and build again")


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below ``folder``, and ``folder`` itself, to the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            with Path(place, name).open("rb+") as file:
                os.fsync(file.fileno())
        sync_folder(Path(place))


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, so that a rename outlives a power cut."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, a link (never what it points to) or a whole folder, as far as that is possible.

    What cannot be removed stays: this cleans up after a failure and must not hide it behind another one.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
