"""A recommender that is trained from nothing."""

import shutil
from pathlib import Path

import pytest

from edgelr.errors import DivergedError
from edgelr.progress import Progress
from edgelr.recipe.schema import Train
from edgelr.tasks.recommendation import scorer
from edgelr.tasks.recommendation_model import load_model
from edgelr.tasks.recommendation_training import train_model
from edgelr.tasks.task import Reading

QUIET = Progress(quiet=True)


def trained(shop: Path, splits, folder: Path, **settings) -> Path:
    folder.mkdir()
    for name in ("users.txt", "items.txt"):
        shutil.copyfile(shop / "two-tower" / name, folder / name)
    train_model(Train(**{"dim": 8, "batch": 8, "epochs": 15, **settings}), splits, folder, 0, QUIET)
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "matrix-factorization"},
        {"type": "two-tower", "hidden": 16},
        {"type": "matrix-factorization", "loss": "bpr"},
    ],
)
def test_it_learns_tastes_and_is_the_same_again(shop: Path, shop_splits, tmp_path: Path, settings) -> None:
    first = trained(shop, shop_splits, tmp_path / "first", **settings)
    model = load_model(first)
    found = scorer(model, Reading(folder=first, max_tokens=0), shop_splits["test"])(model)
    assert found["auc"] > 0.6
    again = trained(shop, shop_splits, tmp_path / "again", **settings)
    for name in ("model.safetensors", "config.json"):
        assert (first / name).read_bytes() == (again / name).read_bytes()


def test_a_rate_that_is_too_high(shop: Path, shop_splits, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"model\.train: the loss is (nan|inf) in epoch"):
        trained(
            shop, shop_splits, tmp_path / "m", type="two-tower", learning_rate=0.99, shrink=1e39, epochs=40
        )
