"""A recipe that trains its dense model first."""

import json
from pathlib import Path

import pytest
from classifiers import LABELS, write_encoder, write_recipe

from edgelr.dense_model import train
from edgelr.errors import UsageError
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


def classifier_recipe(folder: Path) -> Path:
    recipe = write_recipe(folder)
    section = "model: {train: {type: text-classifier, path: encoder, epochs: 1}}"
    recipe.write_text(recipe.read_text().replace("model: {path: model}", section))
    return recipe


def test_a_classifier_is_trained_from_an_encoder_and_again_from_another(tmp_path: Path) -> None:
    recipe = classifier_recipe(tmp_path)
    for written, reused in ((True, False), (False, True), (True, False)):
        if written:
            write_encoder(tmp_path / "encoder", initializer_range=0.1 if (tmp_path / "out").exists() else 0.2)
        done = build(recipe, tmp_path / "out", until="load")
        assert [row["reused"] for row in done.document["stages"]] == [reused, reused]
    job = train(open_job(recipe, tmp_path / "out", (), None, QUIET))
    config = json.loads((job.model_folder / "config.json").read_text())
    assert tuple(config["id2label"].values()) == LABELS
    assert "_name_or_path" not in config


def test_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    recipe = classifier_recipe(tmp_path)
    with pytest.raises(UsageError, match=r"words\.yaml:7: model\.train\.path: .*encoder does not exist"):
        build(recipe, tmp_path / "out", until="load")
