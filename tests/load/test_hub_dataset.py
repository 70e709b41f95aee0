"""Datasets opened by their id, or as folders; reading is tested with each task's own reader."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgelr.errors import DataError
from edgelr.load.hub_dataset import open_dataset
from edgelr.recipe.tasks import TranslationsDataset


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def section(**settings: object) -> TranslationsDataset:
    data = {"source": "dataset", "id": "numbers", "languages": ("en", "de"), **settings}
    return TranslationsDataset.model_validate(data)


def test_a_folder_next_to_the_recipe_comes_first(tmp_path: Path) -> None:
    (tmp_path / "numbers" / "data").mkdir(parents=True)
    (tmp_path / "numbers" / "data" / "train.jsonl").write_text('{"en": "one"}\n{"en": "two"}\n')
    assert list(open_dataset(section(), tmp_path)) == [{"en": "one"}, {"en": "two"}]
    assert list(open_dataset(section(rows=1), tmp_path)) == [{"en": "one"}]
    assert len(open_dataset(section(rows=9, revision="main"), tmp_path)) == 2


def test_what_is_nowhere_is_named_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the dataset 'numbers' cannot be read: .*\n  check id, config"):
        open_dataset(section(), tmp_path)


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    """Of sounds that are loose files, which ``datasets`` reads with torchcodec only."""
    if importlib.util.find_spec("torchcodec") is not None:
        pytest.skip("torchcodec is installed")
    (tmp_path / "numbers" / "train").mkdir(parents=True)
    soundfile.write(tmp_path / "numbers" / "train" / "a.wav", np.zeros(99), 16_000)
    with pytest.raises(DataError, match=r"torchcodec'; or give a dataset of parquet; or list sound files"):
        open_dataset(section(), tmp_path)
