import numpy as np
import pytest
from graph_models import write_recipe

from edgelr.export.label import Label
from edgelr.export.stage import export
from edgelr.load.stage import load
from edgelr.progress import Progress
from edgelr.recipe.load import load_recipe
from edgelr.runtime.package import open_package


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_graph_is_exported_without_torch(tmp_path, name):
    recipe, quiet = load_recipe(write_recipe(tmp_path)), Progress(quiet=True)
    for folder in ("source", "package"):
        (tmp_path / folder).mkdir()
    source = load(recipe, tmp_path, tmp_path / "model.onnx", tmp_path / "source", quiet)
    label = Label(name=name, task=recipe.task, macs=7)
    made = export(source, None, label, recipe.export, tmp_path / "package", quiet)
    assert (made.name, made.task, made.cost.macs) == (name, "onnx", 7)
    assert made.cost.parameters == sum(
        int(np.prod(shape))
        for shape in ((40, 24), (32, 24, 3), 32, (32, 24), (32, 24), (24, 24), (20, 24), 20)
    )
    assert open_package(tmp_path / "package") == made
