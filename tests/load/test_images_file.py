from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelr.artifacts import Split
from edgelr.errors import DataError
from edgelr.load.images_file import load_images
from edgelr.runtime.calls import read_calls

COUNTS: dict[Split, int] = {"train": 8, "calibration": 4, "validation": 3, "test": 2}
IMAGES = np.random.default_rng(0).normal(size=(20, 3, 4, 4)).astype(np.float32)
LABELS = np.arange(20) % 4


def test_every_image_keeps_its_label_and_is_in_one_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", pixel_values=IMAGES, labels=LABELS.astype(np.int32))
    splits = load_images(tmp_path / "images.npz", COUNTS, 0, tmp_path, 4)
    assert {split: len(rows) for split, rows in splits.items()} == COUNTS
    seen = []
    for rows in splits.values():
        for call in read_calls(tmp_path, rows):
            (row,) = np.flatnonzero((call["pixel_values"] == IMAGES).all(axis=(1, 2, 3)))
            assert call["labels"].tolist() == [LABELS[row]]
            seen.append(row)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values": IMAGES.astype(np.float64)}, r"pixel_values is float64 \[20, 3, 4, 4\], wanted"),
        ({"pixel_values": IMAGES[:, 0]}, r"is float32 \[20, 4, 4\], wanted"),
        ({"pixel_values": IMAGES * np.float32(np.inf)}, "wanted are finite"),
        ({"labels": LABELS[1:]}, r"labels is int64 \[19\] for 20 images"),
        ({"labels": LABELS / 2}, "labels is float64"),
        ({"labels": LABELS - 1}, "labels go from -1 to 2, the model has 4"),
        ({"labels": LABELS + 1}, "labels go from 1 to 4, the model has 4"),
        ({"pixel_values": IMAGES[:9], "labels": LABELS[:9]}, "train"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "images.npz", **{"pixel_values": IMAGES, "labels": LABELS, **change})
    with pytest.raises(DataError, match=message):
        load_images(tmp_path / "images.npz", COUNTS, 0, tmp_path, 4)


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=IMAGES)
    with pytest.raises(DataError, match=r"no array pixel_values, labels[\s\S]*with the arrays pixel_values"):
        load_images(tmp_path / "images.npz", COUNTS, 0, tmp_path, 4)
