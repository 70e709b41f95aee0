"""Files of many kinds from what is installed, as the model of the magika package reads them."""

from __future__ import annotations

import hashlib
import itertools
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from magika import Magika

_OF_A_KIND = 12  # files of one suffix: there are thousands of some
_SMALLEST, _LARGEST = 64, 2**22


def inputs() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Beginning and end of every file, with the folder that it is in: no split shares one."""
    reader = Magika()
    for path in files(held_out=False):
        _, found = reader._get_result_or_features_from_path(path)  # magika has no public name for it
        if found is not None:
            numbers = np.array([[*found.beg, *found.mid, *found.end]], np.int32)
            yield str(path.parent), {"bytes": numbers}


def files(*, held_out: bool) -> list[Path]:
    """Files of every suffix, in an order that says nothing about them.

    Args:
        held_out: Whether those of the folders that no recipe sees, half of all.
    """
    places = [sysconfig.get_path(name) for name in ("purelib", "stdlib", "include")]
    roots = [Path(place) for place in dict.fromkeys(places) if Path(place).is_dir()]
    kinds: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for path in itertools.chain.from_iterable(root.rglob("*.*") for root in roots):
        if _digest(path.parent) % 2 == held_out and path.is_file() and not path.is_symlink():
            kinds[path.suffix.lower()].append((_digest(path), path))
    chosen: list[Path] = []
    for suffix in sorted(kinds):
        usable = (path for _, path in sorted(kinds[suffix]) if _SMALLEST <= path.stat().st_size <= _LARGEST)
        chosen += itertools.islice(usable, _OF_A_KIND)
    return sorted(chosen, key=_digest)


def _digest(path: Path) -> int:
    return int(hashlib.sha256(str(path).encode()).hexdigest()[:12], 16)
