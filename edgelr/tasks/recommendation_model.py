"""The recommenders of this project: small modules, and the folder that each is kept in.

A folder has ``config.json``, ``model.safetensors``, ``users.txt`` and ``items.txt``: the last two say, a line
each, what the rows of the two tables are; titles stand behind a tab. A user's own model is such a folder too.

Two score a whole catalog at once. Their items' table is looked up and multiplied by: it is one matrix with
two uses, like the vocabulary of a language model, and is factored as one. The third, in ``deepfm.py``, scores
the candidates that it is given.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.checkpoint import check_finite
from edgelr.lowrank.embedding import LowRankHead
from edgelr.tasks.deepfm import DeepFM
from edgelr.tasks.item_groups import GroupedCatalog, NarrowUsers, cut_items, is_whole
from edgelr.tasks.recommendation_layout import Layout, read_layout

_WEIGHTS = "model.safetensors"
_AGAIN = "train the model again, or get its folder again"


class MatrixFactorization(nn.Module):
    """``score = user · item + popularity of the item``.

    Args:
        layout: Sizes.

    Source:
        Koren, Bell and Volinsky, Matrix Factorization Techniques for Recommender Systems (2009).
    """

    inputs = ("user",)

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.users, self.items, self.catalog = _tables(layout)

    def forward(self, user: Tensor) -> Tensor:
        """Score the catalog for users ``[batch]``: ``[batch, items]``."""
        scores: Tensor = self.catalog(self.users(user))
        return scores


class TwoTower(nn.Module):
    """The user's vector moves by what they have seen: ``user + MLP(user, mean of the items)``.

    Args:
        layout: Sizes.

    Source:
        Covington, Adams and Sargin, Deep Neural Networks for YouTube Recommendations (2016), figure 3.
    """

    inputs = ("user", "seen")

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.users, self.items, self.catalog = _tables(layout)
        self.tower = nn.Sequential(
            nn.Linear(2 * layout.dim, layout.hidden), nn.ReLU(), nn.Linear(layout.hidden, layout.dim)
        )

    def forward(self, user: Tensor, seen: Tensor) -> Tensor:
        """Score the catalog.

        Args:
            user: ``[batch]``.
            seen: Items, ``[batch, met]``; -1 where there is none.

        Returns:
            ``[batch, items]``.
        """
        there = (seen >= 0).to(torch.float32)
        met = self.items(seen.clamp(min=0)) * there[..., None]
        taste = met.sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        own = self.users(user)
        scores: Tensor = self.catalog(own + self.tower(torch.cat([own, taste], dim=-1)))
        return scores


Recommender = MatrixFactorization | TwoTower | DeepFM


def _tables(layout: Layout) -> tuple[nn.Embedding, nn.Embedding, nn.Linear]:
    """Users, items, and the items once more as what a user's vector is multiplied by."""
    users = nn.Embedding(layout.users, layout.dim)
    items = nn.Embedding(layout.items, layout.dim)
    catalog = nn.Linear(layout.dim, layout.items)
    catalog.weight = items.weight
    return users, items, catalog


def make_model(layout: Layout) -> Recommender:
    """A model with weights that are yet to be trained; small, so that it knows nothing but popularity.

    The items are one table, whatever the layout says of parts.
    """
    if layout.model_type == "deepfm":
        deep = DeepFM(layout)
        for table in (deep.users, deep.items, deep.features):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.zeros_(deep.features.weight[0])
        return deep
    model = MatrixFactorization(layout) if layout.model_type == "matrix-factorization" else TwoTower(layout)
    for table in (model.users, model.items):
        nn.init.normal_(table.weight, std=0.1)
    nn.init.zeros_(model.catalog.bias)
    return model


def save_model(model: Recommender, folder: Path) -> None:
    """Write configuration and weights of a model with one table of items.

    The lists of users and items are the caller's.
    """
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != _TIED}
    (folder / "config.json").write_text(json.dumps(asdict(model.layout), indent=2) + "\n", encoding="utf-8")
    save_file(weights, folder / _WEIGHTS)


_TIED = "catalog.weight"  # is the items' table


def load_model(folder: Path) -> Recommender:
    """Read a folder strictly: every tensor there, of its shape, and finite.

    Args:
        folder: See the module's docstring.

    Raises:
        UnsupportedModelError: It is no such folder, or is damaged; what is wrong is named.
    """
    layout = read_layout(folder / "config.json")
    model = make_model(layout)
    path = folder / _WEIGHTS
    try:
        tensors = load_file(path)
        missing, unknown = model.load_state_dict(tensors, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UnsupportedModelError(f"{path} does not fit its config.json: {error}", _AGAIN) from error
    if odd := [name for name in (*missing, *unknown) if name != _TIED]:
        raise UnsupportedModelError(f"{path}: missing or unknown tensors: {', '.join(odd[:5])}", _AGAIN)
    check_finite(model)
    if isinstance(model, DeepFM):
        _check_features(model, path)
    if layout.item_groups:
        cut_items(model, layout.item_groups)
    return model.eval()


def _check_features(model: DeepFM, path: Path) -> None:
    for name in ("user_features", "item_features"):
        rows = getattr(model, name)
        if rows.dtype != torch.int64 or not (rows >= 0).all() or not (rows < model.layout.features).all():
            raise UnsupportedModelError(
                f"{path}: {name} names rows that the {model.layout.features} features do not have", _AGAIN
            )
    if model.features.weight[0].any():
        raise UnsupportedModelError(f"{path}: row 0 of features.weight, of no feature, is not zero", _AGAIN)


def folded(model: nn.Module) -> nn.Module:
    """A factored matrix factorization with fewer numbers a user and an item: the narrow tables are enough.

    ``user = up_u t_u`` times ``item = up_i t_i`` is ``(up_iᵀ up_u t_u) · t_i``: the wide matrices between the
    tables become one that is multiplied into the users' table once and for all; where the items are in parts,
    which would each want a users' table of their own, one that is multiplied by.

    Args:
        model: Any.

    Returns:
        The same scores, by a model of the items' rank; every other model as it is, but with one table of
        items where no part of it is factored.
    """
    head: nn.Module | None = getattr(model, "catalog", None)  # what compress has put there
    if isinstance(head, GroupedCatalog):
        heads = [part for part in head.parts if isinstance(part, LowRankHead)]
        if isinstance(model, MatrixFactorization) and len(heads) == len(head.parts):
            return NarrowUsers(model.users, heads).eval()
        return _in_one_piece(model) if is_whole(model) else model
    if not (isinstance(model, MatrixFactorization) and isinstance(head, LowRankHead)):
        return model
    users = model.users.weight.detach()
    narrow = MatrixFactorization(replace(model.layout, dim=head.rank))
    with torch.no_grad():
        narrow.users.weight.copy_(users @ head.up)
        narrow.items.weight.copy_(head.table)
        if head.bias is not None:
            narrow.catalog.bias.copy_(head.bias)
    return narrow.eval()


def _in_one_piece(model: Any) -> nn.Module:  # noqa: ANN401 - with items in dense parts
    """The same model with one table, which a dense model has no reason to cut."""
    whole = copy.copy(model)
    whole._modules = dict(model._modules)
    rows = model.items.weight.detach()
    items, catalog = nn.Embedding(*rows.shape), nn.Linear(rows.shape[1], rows.shape[0])
    catalog.weight = items.weight
    with torch.no_grad():
        items.weight.copy_(rows)
        catalog.bias.copy_(model.catalog.bias)
    whole.items, whole.catalog = items, catalog
    return cast(nn.Module, whole)


def call(model: Any, batch: dict[str, Tensor]) -> Tensor:  # noqa: ANN401 - dense or factored
    """Scores ``[batch, items]`` of a model that takes some of the batch's tensors."""
    scores: Tensor = model(*[batch[name] for name in model.inputs])
    return scores
