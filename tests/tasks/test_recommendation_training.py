"""A recommender that is trained from nothing."""

import shutil
from pathlib import Path

import pytest

from edgelr.errors import DivergedError
from edgelr.progress import Progress
from edgelr.recipe.recommend import Train
from edgelr.tasks.recommendation import scorer
from edgelr.tasks.recommendation_model import load_model
from edgelr.tasks.recommendation_training import train_model
from edgelr.tasks.task import Reading

QUIET = Progress(quiet=True)
FACTS = (
    {f"u{user}": (f"likes: {user % 2}",) for user in range(30)},
    {str(item): (f"is: {item % 2}", "is: a thing") for item in range(1, 40)},  # nothing is known of item 0
)


def trained(shop: Path, splits, folder: Path, **settings) -> Path:
    folder.mkdir()
    for name in ("users.txt", "items.txt"):
        shutil.copyfile(shop / "two-tower" / name, folder / name)
    settings = {"dim": 8, "batch": 8, "epochs": 15, **settings}
    train_model(Train(**settings), splits, FACTS, folder, 0, QUIET)
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "matrix-factorization"},
        {"type": "two-tower", "hidden": 16},
        {"type": "matrix-factorization", "loss": "bpr"},
        {"type": "deepfm", "hidden": 16},
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


def test_facts_become_rows_of_features(shop: Path, shop_splits, tmp_path: Path) -> None:
    model = load_model(trained(shop, shop_splits, tmp_path / "m", type="deepfm", hidden=4, epochs=1))
    assert (model.layout.features, model.layout.user_features, model.layout.item_features) == (6, 1, 2)
    assert model.item_features[0].tolist() == [0, 0], "nothing is known of it"
    first, second = (model.item_features[item].tolist() for item in (1, 2))
    assert (first[1], first[0] == second[0]) == (second[1], False)
    assert model.user_features[0] == model.user_features[2] != model.user_features[1]


def test_parts_end_where_the_shares_are_reached(shop: Path, shop_splits, tmp_path: Path) -> None:
    folder = trained(shop, shop_splits, tmp_path / "m", type="two-tower", item_groups=(0.5, 0.9), epochs=1)
    sizes = load_model(folder).layout.item_groups
    counts = [0] * 40
    for each in shop_splits["train"]:
        for row in (*each.liked, *each.disliked):
            counts[row] += 1
    ends = [sizes[0], sizes[0] + sizes[1]]
    for share, end in zip((0.5, 0.9), ends, strict=True):
        assert sum(counts[:end]) >= share * sum(counts) > sum(counts[: end - 1])
    assert sum(sizes) == 40
    assert load_model(folder).items.sizes == sizes
