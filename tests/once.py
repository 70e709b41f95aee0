"""What is expensive and only read is made once in a run of the tests, not once in each worker."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

MakeOnce = Callable[[str, Callable[[Path], object]], Path]


def once_in(home: Path) -> MakeOnce:
    """``once_in(home)("model", fill)``: the folder ``model`` in ``home``, filled by whoever came first."""

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = home / name, home / f"{name}.done"
        with FileLock(home / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker whose fixture failed in the middle
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make
