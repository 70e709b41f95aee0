"""The recommenders and their folders."""

import shutil
from pathlib import Path

import pytest
import torch
from recommendation_fixtures import ITEMS

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.reduce import restructure
from edgelr.structure import Reduction
from edgelr.tasks.recommendation_layout import Layout
from edgelr.tasks.recommendation_model import call, folded, load_model, make_model, save_model

KINDS = ("matrix-factorization", "two-tower")
BATCH = {"user": torch.tensor([3, 0]), "seen": torch.tensor([[1, 7, -1], [5, -1, -1]])}


def factored(shop: Path, kind: str, rank: int = 4) -> torch.nn.Module:
    model = load_model(shop / kind)
    reductions = [
        Reduction(form="low-rank", sites=("users",), rank=rank),
        Reduction(form="low-rank", sites=("items",), rank=rank, shared=("catalog",)),
    ]
    restructure(model, reductions)
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_what_it_was_when_it_is_read_again(shop: Path, tmp_path: Path, kind: str) -> None:
    model = load_model(shop / kind)
    assert call(model, BATCH).shape == (2, ITEMS)
    save_model(model, tmp_path)
    torch.testing.assert_close(call(load_model(tmp_path), BATCH), call(model, BATCH))
    assert model.catalog.weight is model.items.weight


def test_scores_are_products_and_popularity(shop: Path) -> None:
    model = load_model(shop / "matrix-factorization")
    model.catalog.bias.data[7] = 2.0
    expected = model.users.weight[3] @ model.items.weight[7] + 2.0
    torch.testing.assert_close(call(model, BATCH)[0, 7], expected)


def test_padding_is_not_read_and_what_was_seen_is(shop: Path) -> None:
    model = load_model(shop / "two-tower")
    scores = call(model, BATCH)
    wide = {**BATCH, "seen": torch.nn.functional.pad(BATCH["seen"], (0, 5), value=-1)}
    torch.testing.assert_close(call(model, wide), scores)
    other = {**BATCH, "seen": torch.tensor([[1, 8, -1], [5, -1, -1]])}
    assert not torch.allclose(call(model, other)[0], scores[0])
    none = {**BATCH, "seen": torch.full((2, 1), -1)}
    assert torch.isfinite(call(model, none)).all()


def test_a_folded_model_gives_the_same_scores_with_narrow_tables(shop: Path) -> None:
    model = factored(shop, "matrix-factorization")
    narrow = folded(model)
    torch.testing.assert_close(call(narrow, BATCH), call(model, BATCH), rtol=1e-4, atol=1e-4)
    assert narrow.users.weight.shape[1] == 4
    dense, tower = load_model(shop / "matrix-factorization"), factored(shop, "two-tower")
    assert folded(dense) is dense
    assert folded(tower) is tower


@pytest.fixture
def copied(shop: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop / "two-tower", tmp_path / "model"))


def test_weights_that_are_wrong(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = copied / "model.safetensors"
    tensors = load_file(path)
    save_file({name: each for name, each in tensors.items() if name != "users.weight"}, path)
    with pytest.raises(UnsupportedModelError, match=r"missing or unknown tensors: users\.weight"):
        load_model(copied)
    save_file({**tensors, "users.weight": tensors["users.weight"] * float("nan")}, path)
    with pytest.raises(UnsupportedModelError, match=r"'users\.weight' holds .* not finite"):
        load_model(copied)
    path.write_bytes(b"no tensors")
    with pytest.raises(UnsupportedModelError, match=r"does not fit its config\.json"):
        load_model(copied)
    (copied / "config.json").write_text("[]")
    with pytest.raises(UnsupportedModelError, match="is of no recommender"):
        load_model(copied)


def test_features_that_are_wrong(shop: Path, tmp_path: Path) -> None:
    sizes = {"users": 3, "items": 4, "dim": 2, "hidden": 4, "features": 3, "user_features": 1}
    model = make_model(Layout(model_type="deepfm", item_features=2, **sizes))
    model.item_features[2, 1] = 3
    save_model(model, tmp_path)
    with pytest.raises(UnsupportedModelError, match="item_features names rows that the 3 features do not"):
        load_model(tmp_path)
    model.item_features[2, 1] = 2
    model.features.weight.data[0] = 1.0
    save_model(model, tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"row 0 of features\.weight, of no feature, is not zero"):
        load_model(tmp_path)
