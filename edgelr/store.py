"""Artifact <-> folder: content-addressed, atomic, verified, locked.

``<root>/<stage>/<key>/`` holds one artifact and its ``manifest.json``. The key is the hash of exactly what
can change the result, so a folder that exists is the result, and a change of anything gives another folder.
Beside it, while it is made: ``.<key>.<pid>.tmp`` (thrown away after a kill), ``<key>.scratch`` (kept, so that
a long stage resumes), ``<key>.lock`` (never removed: unlinking a lock splits those who wait for it) and
``<key>.damaged-N`` (an artifact that did not match its manifest).
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from edgelr.errors import DamagedArtifactError
from edgelr.manifest import MANIFEST, artifact_key, ingredients_of, verify, write_manifest
from edgelr.writing import atomic_write_text, remove, replace_folder, sync_folder, sync_tree, writing

if TYPE_CHECKING:
    from edgelr.progress import Progress

__all__ = [
    "MANIFEST",
    "Store",
    "Stored",
    "atomic_write_text",
    "code_digest",
    "replace_folder",
    "verify",
    "writing",
]

PATIENCE_S = 0.5  # checking what another process just finished takes less: no need to tell
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Stored(Generic[T]):
    """An artifact in the store.

    Attributes:
        artifact: The typed view of the folder.
        key: Hash of everything that can change it.
        folder: Where its files are; read-only for everyone but the store.
        seconds: How long it took to build, this time or when it was built.
        reused: Whether it was found rather than built.
    """

    artifact: T
    key: str
    folder: Path
    seconds: float
    reused: bool


class Store:
    """A folder of artifacts that several builds may share.

    Args:
        root: Made when it does not exist.
        progress: Where waiting, reuse and damage are told.
    """

    def __init__(self, root: Path, progress: Progress) -> None:
        self.root = root
        self._progress = progress

    def get_or_build(
        self,
        stage: str,
        *,
        inputs: Mapping[str, str],
        settings: object,
        versions: Mapping[str, str],
        build: Callable[[Path, Path], object],
        read: Callable[[Path], T],
    ) -> Stored[T]:
        """Give the artifact of these ingredients, building it only when no sound one is there.

        Args:
            stage: Name of the stage, a plain file name.
            inputs: Name -> key of every artifact that goes in.
            settings: JSON-able: everything of the recipe that can change the result, the seed included.
            versions: Library -> version, and ``code`` -> ``code_digest(...)``.
            build: ``build(folder, scratch)`` writes the artifact into the empty ``folder``; ``scratch`` is
                kept when it fails or is killed, and given to the next attempt.
            read: Opens a folder; a ``DamagedArtifactError`` from it makes the artifact be built again.

        Raises:
            StorageError: The store cannot be written.
            DamagedArtifactError: What was just built cannot be read.
        """
        ingredients = ingredients_of(stage, inputs, settings, versions)
        folder = self.root / stage / artifact_key(ingredients)
        with writing(self.root):
            folder.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(stage, folder):
            _remove_leftovers(folder)
            if os.path.lexists(folder):
                try:
                    return self._reuse(stage, folder, read)
                except DamagedArtifactError as error:
                    self._set_aside(stage, folder, error)
            seconds = _build(folder, ingredients, build)
            artifact = read(folder)
        return Stored(artifact=artifact, key=folder.name, folder=folder, seconds=seconds, reused=False)

    def _reuse(self, stage: str, folder: Path, read: Callable[[Path], T]) -> Stored[T]:
        manifest = verify(folder)
        if manifest["key"] != folder.name:
            raise DamagedArtifactError(f"{folder} holds another artifact: {manifest['key']}")
        artifact = read(folder)
        remove(_scratch(folder))  # a kill right after the rename leaves it
        self._progress.reused(stage)
        seconds = float(manifest["seconds"])
        return Stored(artifact=artifact, key=folder.name, folder=folder, seconds=seconds, reused=True)

    def _set_aside(self, stage: str, folder: Path, error: DamagedArtifactError) -> None:
        number = 1
        while os.path.lexists(aside := folder.with_name(f"{folder.name}.damaged-{number}")):
            number += 1
        with writing(self.root):
            folder.rename(aside)
        self._progress.warn(f"{error.found}; set aside as {aside.name}, building {stage} again")

    @contextmanager
    def _locked(self, stage: str, folder: Path) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(_lock_path(folder))
        with writing(self.root):
            try:
                lock.acquire(timeout=PATIENCE_S)
            except Timeout:
                builders = [path.name.split(".")[2] for path in folder.parent.glob(f".{folder.name}.*.tmp")]
                who = f" (pid {builders[0]})" if builders else ""
                self._progress.note(f"waiting for another build{who} to finish {stage}")
                lock.acquire()
        try:
            yield
        finally:
            lock.release()


@functools.cache
def code_digest(*modules: str) -> str:
    """Hash the source of parts of this program, so that a change of the code never gives a stale result.

    Args:
        modules: Packages or modules below ``edgelr``: ``"survey"``, ``"compress.svd"``, ``"artifacts"``.

    Returns:
        The sha256 over names and contents of their ``.py`` files.

    Raises:
        ValueError: There is no such module.
    """
    home = Path(__file__).parent
    found: set[Path] = set()
    for module in modules:
        path = home.joinpath(*module.split("."))
        sources = list(path.rglob("*.py")) if path.is_dir() else [path.with_name(f"{path.name}.py")]
        if not sources or not all(source.is_file() for source in sources):
            raise ValueError(f"edgelr has no module {module!r}")
        found.update(sources)
    digest = hashlib.sha256()
    for name, source in sorted((source.relative_to(home).as_posix(), source) for source in found):
        digest.update(f"{name} {hashlib.sha256(source.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _build(folder: Path, ingredients: Mapping[str, Any], build: Callable[[Path, Path], object]) -> float:
    scratch = _scratch(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        with writing(folder.parent):
            temporary.mkdir()
            scratch.mkdir(exist_ok=True)
            started = time.perf_counter()
            build(temporary, scratch)
            seconds = round(time.perf_counter() - started, 3)
            write_manifest(temporary, ingredients, seconds)
            sync_tree(temporary)
            temporary.rename(folder)
            sync_folder(folder.parent)
    finally:
        remove(temporary)
        if scratch.is_dir() and not any(scratch.iterdir()):
            remove(scratch)
    remove(scratch)
    return seconds


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed builds left: who builds a key holds its lock, so a free lock means dead."""
    from filelock import FileLock, Timeout

    for path in folder.parent.glob(f".{'[0-9a-f]' * len(folder.name)}.*.tmp"):
        key = path.name.split(".")[1]
        if key == folder.name:
            remove(path)
            continue
        try:
            with FileLock(_lock_path(folder.with_name(key)), timeout=0):
                remove(path)
        except Timeout:
            continue


def _scratch(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.scratch")


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
