"""The ``.npz`` files of a package: written to the same bytes for the same arrays, read without unpickling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile
from zlib import error as zlib_error

from edgelr.errors import DamagedArtifactError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What NumPy and zipfile raise for a damaged, encrypted, oddly compressed or impossibly large member.
_UNREADABLE = (OSError, ValueError, EOFError, BadZipFile, zlib_error, RuntimeError, MemoryError, KeyError)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays, uncompressed and in the order of their names.

    Args:
        path: A ``.npz`` file.
        arrays: Name -> array.
    """
    import numpy as np

    # NumPy stamps the members with 1980, so that equal arrays are equal bytes.
    np.savez(path, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})


class ArraysFile:
    """A ``.npz`` file that is written array by array, so that they need not be in memory together.

    Args:
        archive: Open for writing.
    """

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive

    def append(self, name: str, array: NDArray[Any]) -> None:
        """Write one more array, uncompressed; equal arrays in the same order are equal bytes."""
        import numpy as np

        # A member that is named, not a file that is added, is stamped with 1980.
        with self._archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, array, allow_pickle=False)


@contextmanager
def arrays_file(path: Path) -> Iterator[ArraysFile]:
    """Open a new ``.npz`` file to append arrays to."""
    with ZipFile(path, "w", ZIP_STORED) as archive:
        yield ArraysFile(archive)


def read_arrays(path: Path, required: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read named arrays.

    Args:
        path: A ``.npz`` file.
        required: Names that must be there.

    Raises:
        DamagedArtifactError: The file is missing, is no ``.npz``, holds pickled objects (never executed),
            or lacks an array.
    """
    import numpy as np

    try:
        if not is_zipfile(path):  # else np.load would take any array, or a pickle, for granted
            raise ValueError("it is missing or not an .npz file")
        with np.load(path, allow_pickle=False) as opened:
            arrays = {name: np.asarray(opened[name]) for name in opened.files}
    except _UNREADABLE as error:
        raise DamagedArtifactError(
            f"{path} cannot be read: {error}", "get or build the package again"
        ) from error
    if missing := [name for name in required if name not in arrays]:
        raise DamagedArtifactError(
            f"{path} has no array {', '.join(missing)}", "get or build the package again"
        )
    return arrays
