"""A small shop: people of two tastes, what they met and liked, and a model of each kind that knows them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from once import MakeOnce

from edgelr.artifacts import Package
from edgelr.load.interactions import list_catalog, model_catalog, read_met, split_by_time
from edgelr.progress import Progress
from edgelr.recipe.recommend import InteractionsFile
from edgelr.runtime.package import open_package

USERS, ITEMS, MET = 30, 40, 20


def write_shop(folder: Path) -> None:
    """``clicks.csv``, ``titles.csv`` and ``people.csv``: who is even likes what is even, mostly."""
    draw = np.random.default_rng(0)
    lines = []
    for user in range(USERS):
        for place, item in enumerate(draw.permutation(ITEMS)[:MET]):
            liked = (user + item) % 2 == 0 if draw.random() < 0.9 else draw.random() < 0.5
            lines.append(f"u{user},{item},{1000 * place + user},{5 if liked else 2}")
    order = draw.permutation(len(lines))
    rows = ["user,item,time,rating", *(lines[number] for number in order)]
    (folder / "clicks.csv").write_text("".join(f"{row}\n" for row in rows))
    kinds = ("even|plain", "odd")
    titles = ["item,title,kind", *(f'{item},"Thing, {item}",{kinds[item % 2]}' for item in range(ITEMS))]
    (folder / "titles.csv").write_text("".join(f"{row}\n" for row in titles))
    people = ["user,taste", *(f"u{user},{kinds[user % 2]}" for user in range(USERS))]
    (folder / "people.csv").write_text("".join(f"{row}\n" for row in people))


@pytest.fixture(scope="session")
def shop(make_once: MakeOnce) -> Path:
    """A folder with the data, and a model of each kind with random weights next to it."""
    return make_once("shop", write_shop_and_models)


def write_shop_and_models(folder: Path) -> None:
    import torch

    from edgelr.tasks.recommendation_model import Layout, make_model, save_model

    write_shop(folder)
    for kind in ("matrix-factorization", "two-tower"):
        (folder / kind).mkdir()
        list_catalog(read_met(shop_data(), folder), folder / kind)
        torch.manual_seed(0)
        hidden = 24 if kind == "two-tower" else 0
        model = make_model(Layout(model_type=kind, users=USERS, items=ITEMS, dim=16, hidden=hidden))
        model.items.weight.data *= 10
        save_model(model, folder / kind)


def shop_data() -> InteractionsFile:
    """The recipe's section."""
    return InteractionsFile(
        source="file", path="clicks.csv", titles="titles.csv", users="people.csv", test=0.2, validation=0.2
    )


@pytest.fixture(scope="session")
def shop_splits(shop: Path):
    met = read_met(shop_data(), shop)
    return split_by_time(met, model_catalog(shop / "two-tower"), shop_data(), 20, Progress(quiet=True))


@pytest.fixture(scope="session")
def shop_recipe(shop: Path) -> Callable[..., Path]:
    """``write(folder, model)``: a recipe on that data."""

    def write(folder: Path, model: dict[str, object], **sections: object) -> Path:
        document = {
            "edgelr": 1,
            "name": "shop",
            "task": {
                "type": "recommendation",
                "data": {
                    "source": "file",
                    "path": str(shop / "clicks.csv"),
                    "titles": str(shop / "titles.csv"),
                    "users": str(shop / "people.csv"),
                    "test": 0.2,
                    "validation": 0.2,
                },
            },
            "model": model,
            "compress": {
                "keep": {"parameters": 0.7},
                "vocabulary": True,
                "rank_multiple": 4,
                "calibration": {"examples": 30, "sensitivity_examples": 8},
            },
            "validate": {"seconds": 1.0, "baselines": ["dense-fp32"]},
            **sections,
        }
        path = folder / "shop.yaml"
        path.write_text(json.dumps(document))  # JSON is YAML
        return path

    return write


@pytest.fixture(scope="session")
def shop_package_folder(make_once: MakeOnce, shop: Path, shop_recipe: Callable[..., Path]) -> Path:
    """An fp32 package of the factored two-tower, which ranks inside its graph."""
    from edgelr.pipeline import build

    def fill(home: Path) -> None:
        recipe = shop_recipe(home, {"path": str(shop / "two-tower")}, export={"top": 20})
        build(recipe, home / "shop", until="export")

    home = make_once("shop-package", fill)
    (manifest,) = (home / ".store" / "export").glob("*/package.json")
    return manifest.parent


@pytest.fixture
def shop_package(shop_package_folder: Path, tmp_path: Path) -> Package:
    """A copy that may be changed."""
    return open_package(Path(shutil.copytree(shop_package_folder, tmp_path / "package")))
