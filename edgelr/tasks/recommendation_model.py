"""The recommenders of this project: two small modules, and the folder that each is kept in.

A folder has ``config.json``, ``model.safetensors``, ``users.txt`` and ``items.txt``: the last two say, a line
each, what the rows of the two tables are; titles stand behind a tab. A user's own model is such a folder too.

Both score a whole catalog at once. The items' table is looked up and multiplied by: it is one matrix with two
uses, like the vocabulary of a language model, and is factored as one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.checkpoint import check_finite
from edgelr.lowrank.embedding import LowRankHead

Kind = Literal["matrix-factorization", "two-tower"]
Loss = Literal["log-loss", "bpr"]

_WEIGHTS = "model.safetensors"
_AGAIN = "train the model again, or get its folder again"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What ``config.json`` says.

    Attributes:
        model_type: Which of the modules.
        users: Rows of the users' table.
        items: Of the items' table.
        dim: Numbers of a row.
        hidden: Width of the MLP, of ``two-tower``.
        loss: What it was trained with: of ``log-loss``, scores are log-odds of a like.
        unseen: What an item that a user never met counted as a dislike.
    """

    model_type: Kind
    users: int
    items: int
    dim: int
    hidden: int = 0
    loss: Loss = "log-loss"
    unseen: float = 0.2


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


Recommender = MatrixFactorization | TwoTower


def _tables(layout: Layout) -> tuple[nn.Embedding, nn.Embedding, nn.Linear]:
    """Users, items, and the items once more as what a user's vector is multiplied by."""
    users = nn.Embedding(layout.users, layout.dim)
    items = nn.Embedding(layout.items, layout.dim)
    catalog = nn.Linear(layout.dim, layout.items)
    catalog.weight = items.weight
    return users, items, catalog


def make_model(layout: Layout) -> Recommender:
    """A model with weights that are yet to be trained; small, so that it knows nothing but popularity."""
    model = MatrixFactorization(layout) if layout.model_type == "matrix-factorization" else TwoTower(layout)
    for table in (model.users, model.items):
        nn.init.normal_(table.weight, std=0.1)
    nn.init.zeros_(model.catalog.bias)
    return model


def save_model(model: Recommender, folder: Path) -> None:
    """Write configuration and weights; the lists of users and items are the caller's."""
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
    return model.eval()


def read_layout(path: Path) -> Layout:
    """What a ``config.json`` says.

    Args:
        path: The file.

    Raises:
        UnsupportedModelError: It cannot be read, or is of no model of this project; the key is named.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        layout = Layout(**document)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UnsupportedModelError(f"{path} is of no recommender: {error}", _keys()) from error
    sizes = {name: getattr(layout, name) for name in ("users", "items", "dim")}
    if layout.model_type == "two-tower":
        sizes["hidden"] = layout.hidden
    for name, allowed in (("model_type", get_args(Kind)), ("loss", get_args(Loss))):
        if getattr(layout, name) not in allowed:
            raise UnsupportedModelError(
                f"{path}: {name} is {getattr(layout, name)!r}", f"known are {', '.join(allowed)}"
            )
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise UnsupportedModelError(f"{path}: {name} is {size!r}, no size", _keys())
    return layout


def _keys() -> str:
    return f"it has the keys {', '.join(field.name for field in fields(Layout))}"


def folded(model: nn.Module) -> nn.Module:
    """A factored matrix factorization with fewer numbers a user and an item: the narrow tables are enough.

    ``user = up_u t_u`` times ``item = up_i t_i`` is ``(up_iᵀ up_u t_u) · t_i``: the wide matrices between the
    tables become one that is multiplied into the users' table once and for all.

    Args:
        model: Any.

    Returns:
        The same scores, by a model of the items' rank; every other model as it is.
    """
    head: nn.Module | None = getattr(model, "catalog", None)  # what compress has put there
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


def call(model: Any, batch: dict[str, Tensor]) -> Tensor:  # noqa: ANN401 - dense or factored
    """Scores ``[batch, items]`` of a model that takes some of the batch's tensors."""
    scores: Tensor = model(*[batch[name] for name in model.inputs])
    return scores
