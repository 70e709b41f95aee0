from graph_models import network_calls, run, write_recipe

from edgelr.compress.stage import compress
from edgelr.load.stage import load
from edgelr.plan.planner import Storage
from edgelr.plan.stage import plan
from edgelr.progress import Progress
from edgelr.recipe.load import load_recipe
from edgelr.survey.stage import survey


def test_a_graph_is_factored_as_a_graph(tmp_path):
    recipe, quiet = load_recipe(write_recipe(tmp_path)), Progress(quiet=True)
    for name in ("source", "survey", "plan", "factored"):
        (tmp_path / name).mkdir()
    source = load(recipe, tmp_path, tmp_path / "model.onnx", tmp_path / "source", quiet)
    surveyed = survey(source, recipe.task, recipe.compress, tmp_path / "survey", quiet)
    chosen = plan(surveyed, recipe.compress, Storage(precision="fp32", pivoted=False), tmp_path / "plan")
    made = compress(source, surveyed, chosen, recipe, tmp_path / "factored", quiet)
    assert made.reductions == chosen.reductions != ()
    assert made.method == "whitened"
    assert {path.name for path in made.folder.iterdir()} == {"model.onnx", "structure.json"}
    assert run(made.folder / "model.onnx", network_calls(1)[0])[0].shape == (2, 20)
