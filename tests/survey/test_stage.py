import numpy as np
from graph_models import write_recipe

from edgelr.artifact_files import read_survey
from edgelr.load.stage import load
from edgelr.progress import Progress
from edgelr.recipe.load import load_recipe
from edgelr.survey.stage import survey


def test_the_task_says_which_form_the_model_has(tmp_path):
    recipe = load_recipe(write_recipe(tmp_path))
    for name in ("source", "survey"):
        (tmp_path / name).mkdir()
    quiet = Progress(quiet=True)
    source = load(recipe, tmp_path, tmp_path / "model.onnx", tmp_path / "source", quiet)
    assert source.counts == {"train": 0, "calibration": 20, "validation": 6, "test": 8}
    found = survey(source, recipe.task, recipe.compress, tmp_path / "survey", quiet)
    assert read_survey(tmp_path / "survey") == found
    assert {site.name for site in found.sites} == {"conv", "attention.q", "attention.k", "first", "head"}
    with np.load(tmp_path / "survey" / "spectra.npz") as spectra:
        assert {"conv", "joint:attention.q"} <= set(spectra.files)
