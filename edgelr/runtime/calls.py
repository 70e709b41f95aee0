"""Arrays of the examples of a graph, and what the dense model gives for them: ``.npz`` files in ``arrays/``.

An array of an example is called ``<entry>/<name>``: one file holds all calls of a split, of any shape.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import DamagedArtifactError, DataError
from edgelr.examples import Call
from edgelr.runtime.arrays import arrays_file, read_arrays
from edgelr.runtime.package import ARRAYS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Named = Mapping[str, NDArray[Any]]

OUTPUTS = f"{ARRAYS}outputs.npz"
MOST_BYTES = 2 << 30  # of a split: all of it is in memory when it is read
_METRIC = "metric"
_AGAIN = "get or build the package again"


def copy_calls(source: Path, target: Path, calls: Iterable[Call]) -> None:
    """Copy the files that the arrays of examples are in.

    Args:
        source: What their names are relative to.
        target: Where they are to be, under the same names.
        calls: The examples.
    """
    for file in sorted({each.file for each in calls}):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, target / file)


def write_calls(folder: Path, split: str, calls: Iterable[Named], group: str = "") -> tuple[Call, ...]:
    """Write the arrays of a split to ``arrays/<split>.npz``.

    Args:
        folder: Where the list of examples is, or will be.
        split: Name of the file.
        calls: Name -> array, an example an entry; these may be more arrays than a graph reads.
        group: Of all of them; each its own when it is empty.

    Returns:
        The examples, in the same order.

    Raises:
        DataError: They are more than can be kept in memory.
    """
    path = folder / ARRAYS / f"{split}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    made: list[Call] = []
    size = 0
    with arrays_file(path) as file:
        for number, call in enumerate(calls):
            size += sum(array.nbytes for array in call.values())
            if size > MOST_BYTES:
                raise DataError(
                    f"the arrays of the {split} examples are more than {MOST_BYTES >> 30} GiB after {number}",
                    f"ask for fewer: task.data.{split}",
                )
            for name in sorted(call):
                file.append(f"{number}/{name}", call[name])
            name = f"{split}-{number:06d}"
            made.append(Call(id=name, group=group or name, file=f"{ARRAYS}{split}.npz", entry=str(number)))
    return tuple(made)


def read_calls(folder: Path, examples: Sequence[Call]) -> list[dict[str, NDArray[Any]]]:
    """The arrays of some examples, in their order.

    Args:
        folder: Of the file that lists the examples.
        examples: Of that file.

    Raises:
        DataError: The arrays were taken out of the package.
        DamagedArtifactError: A file cannot be read, is outside ``arrays/``, or has nothing of an example.
    """
    stored = {file: _entries(folder, file) for file in {each.file for each in examples}}
    for each in examples:
        if each.entry not in stored[each.file]:
            raise DamagedArtifactError(f"{folder / each.file}: there is nothing of {each.id!r}", _AGAIN)
    return [stored[each.file][each.entry] for each in examples]


def _entries(folder: Path, file: str) -> dict[str, dict[str, NDArray[Any]]]:
    if not file.startswith(ARRAYS) or ".." in Path(file).parts:
        raise DamagedArtifactError(f"{folder}: the file {file!r} of an example is not in {ARRAYS}", _AGAIN)
    if not (folder / ARRAYS).is_dir():
        raise DataError(
            f"{folder} has no {ARRAYS}: the arrays that its accuracy is measured on were taken out", _AGAIN
        )
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in read_arrays(folder / file).items():
        entry, _, name = key.partition("/")
        found.setdefault(entry, {})[name] = array
    return found


def write_outputs(folder: Path, outputs: Sequence[Named], metric: NDArray[np.float64] | None) -> None:
    """Write what the dense model gives for the examples of a package.

    Args:
        folder: The package's.
        outputs: Name -> array, an example an entry.
        metric: What the user's own function says of each, ``[examples]``; None without one.
    """
    path = folder / OUTPUTS
    path.parent.mkdir(parents=True, exist_ok=True)
    with arrays_file(path) as file:
        for number, given in enumerate(outputs):
            for name in sorted(given):
                file.append(f"{number}/{name}", given[name])
        if metric is not None:
            file.append(_METRIC, metric)


def read_outputs(
    folder: Path, count: int
) -> tuple[list[dict[str, NDArray[Any]]], NDArray[np.float64] | None]:
    """What the dense model gives for the examples of a package; see ``write_outputs``.

    Args:
        folder: The package's.
        count: How many examples it has.

    Raises:
        DataError: The arrays were taken out of the package.
        DamagedArtifactError: They cannot be read, or do not fit the examples.
    """
    stored = _entries(folder, OUTPUTS)
    metric = stored.pop(_METRIC, {}).get("")
    if set(stored) != {str(number) for number in range(count)} or (
        metric is not None and metric.shape != (count,)
    ):
        raise DamagedArtifactError(
            f"{folder / OUTPUTS}: {len(stored)} dense outputs do not fit {count} examples", _AGAIN
        )
    return [stored[str(number)] for number in range(count)], metric
