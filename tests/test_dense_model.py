"""A recipe that trains its dense model first."""

from pathlib import Path

from edgelr.dense_model import train
from edgelr.job import open_job
from edgelr.pipeline import build
from edgelr.progress import Progress
from edgelr.tasks.recommendation_model import load_model

TRAIN = {"train": {"type": "matrix-factorization", "dim": 8, "epochs": 1, "batch": 8}}
QUIET = Progress(quiet=True)


def test_a_model_is_trained_once(shop_recipe, tmp_path: Path) -> None:
    recipe = shop_recipe(tmp_path, TRAIN)
    first = build(recipe, tmp_path / "shop", until="load")
    again = build(recipe, tmp_path / "shop", until="load")
    assert [(row["stage"], row["reused"]) for row in first.document["stages"]] == [
        ("train", False),
        ("load", False),
    ]
    assert [row["reused"] for row in again.document["stages"]] == [True, True]
    job = train(open_job(recipe, tmp_path / "shop", (), None, QUIET))
    assert load_model(job.model_folder).layout.dim == 8
    recipe.write_text(recipe.read_text().replace('"epochs": 1', '"epochs": 2'))
    other = build(recipe, tmp_path / "shop", until="load")
    assert [row["reused"] for row in other.document["stages"]] == [False, False], "the model is another"


def test_a_model_that_there_is_stays(shop: Path, shop_recipe, tmp_path: Path) -> None:
    job = open_job(
        shop_recipe(tmp_path, {"path": str(shop / "two-tower")}), tmp_path / "shop", (), None, QUIET
    )
    assert train(job) is job
    assert job.rows == []
