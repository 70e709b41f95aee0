"""A user's own images with their labels, from an ``.npz`` file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.artifacts import SPLITS, Split
from edgelr.errors import DamagedArtifactError, DataError
from edgelr.examples import Call
from edgelr.load.splits import split_by_group
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.calls import write_calls

IMAGES, LABELS = "pixel_values", "labels"


def load_images(
    path: Path, counts: Mapping[Split, int], seed: int, folder: Path, known: int
) -> dict[Split, tuple[Call, ...]]:
    """Split the images, and write those of each split.

    Args:
        path: An ``.npz`` file with ``pixel_values`` ``[images, channels, height, width]`` and ``labels``
            ``[images]``.
        counts: Images of each split.
        seed: Changes which image goes where.
        folder: Where the lists of examples will be.
        known: How many labels the model has.

    Raises:
        DataError: The file is missing or malformed, has too few images, or a label that the model lacks.
    """
    try:
        arrays = read_arrays(path, (IMAGES, LABELS))
    except DamagedArtifactError as error:
        raise DataError(error.found, f"give an .npz file with the arrays {IMAGES} and {LABELS}") from error
    images, labels = arrays[IMAGES], arrays[LABELS]
    if images.ndim != 4 or images.dtype != np.float32 or not np.isfinite(images).all():
        raise DataError(
            f"{path}: {IMAGES} is {images.dtype} {list(images.shape)}, wanted are finite float32 "
            "[images, channels, height, width]",
            "save what the model's image processor gives",
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {LABELS} is {labels.dtype} {list(labels.shape)} for {len(images)} images",
            "one whole number an image is needed",
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < known:
        raise DataError(
            f"{path}: {LABELS} go from {labels.min()} to {labels.max()}, the model has {known}",
            "they are the numbers of id2label in its config.json",
        )
    rows = [Call(id=f"{row:07d}", group=f"{row:07d}", file="", entry="") for row in range(len(images))]
    chosen = split_by_group(rows, counts, seed=seed)
    return {split: write_calls(folder, split, _rows(arrays, chosen[split])) for split in SPLITS}


def _rows(arrays: Mapping[str, NDArray[Any]], chosen: Sequence[Call]) -> Iterator[dict[str, NDArray[Any]]]:
    for each in chosen:
        row = [int(each.id)]
        yield {IMAGES: arrays[IMAGES][row], LABELS: arrays[LABELS][row].astype(np.int64)}
