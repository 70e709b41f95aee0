import shutil

import pytest

from edgelr.errors import DataError
from edgelr.examples import Example
from edgelr.quantize.calibration import Data
from edgelr.quantize.drop import drop_of
from edgelr.recipe.quantize import MaxDrop
from edgelr.runtime.examples import folder_examples


def given(examples):
    return Data(feeds={}, validation=examples)


@pytest.mark.parametrize("metric", ["cosine", "overlap@10"])
def test_the_same_graphs_lose_nothing_and_noisy_ones_something(make_package, metric):
    package, noisy = make_package(), make_package("noisy", noise=0.8)
    examples = folder_examples(package.folder, Example)
    drop = drop_of(package, given(examples), "int8-dynamic", MaxDrop(metric=metric, value=0.1))
    assert drop(package.folder) == pytest.approx(0, abs=1e-9)
    assert drop(noisy.folder) > 0.01


def test_translations(dense_translator, translations, tmp_path):
    drop = drop_of(dense_translator, given(translations[:4]), "fp16", MaxDrop(metric="agreement", value=0.1))
    for graph in dense_translator.graphs.values():
        shutil.copyfile(dense_translator.folder / graph.file, tmp_path / graph.file)
    assert drop(tmp_path) == 0


def test_examples_that_cannot_be_scored(make_package):
    examples = [Example(id="a", group="a", passage="a file")]
    with pytest.raises(DataError, match="there is no validation example"):
        drop_of(make_package(), given(examples), "fp16", MaxDrop(metric="cosine", value=0.1))
