from pathlib import Path

import pytest

from edgelr.artifacts import SPLITS
from edgelr.errors import DataError
from edgelr.examples import Example
from edgelr.load.stage import load
from edgelr.progress import Progress
from edgelr.recipe.load import load_recipe


def run(recipe_path: Path, model: Path, folder: Path):
    folder.mkdir()
    return load(load_recipe(recipe_path), recipe_path.parent, model, folder, Progress(quiet=True))


def test_a_source_has_its_splits_and_describes_the_model(tiny_recipe, tiny_model, tmp_path):
    source = run(tiny_recipe, tiny_model, tmp_path / "a")
    assert source.counts == {"train": 40, "calibration": 20, "validation": 10, "test": 20}
    assert [len(source.examples(split, Example)) for split in SPLITS] == [
        source.counts[split] for split in SPLITS
    ]
    assert source.license == "apache-2.0"
    again = run(tiny_recipe, tiny_model, tmp_path / "b")
    for split in SPLITS:
        assert source.examples(split, Example) == again.examples(split, Example)


def test_an_empty_data_set(tiny_recipe, tiny_model, tmp_path, pairs_file):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    text = tiny_recipe.read_text().replace(str(pairs_file), str(empty))
    tiny_recipe.write_text(text)
    with pytest.raises(DataError, match="is empty"):
        run(tiny_recipe, tiny_model, tmp_path / "a")
