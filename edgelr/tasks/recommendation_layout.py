"""What the ``config.json`` of a recommender says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from edgelr.errors import UnsupportedModelError

Kind = Literal["matrix-factorization", "two-tower", "deepfm"]
Loss = Literal["log-loss", "bpr"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What ``config.json`` says.

    Attributes:
        model_type: Which of the modules.
        users: Rows of the users' table.
        items: Of the items' table.
        dim: Numbers of a row.
        hidden: Width of the MLP, of ``two-tower`` and ``deepfm``.
        loss: What it was trained with: of ``log-loss``, scores are log-odds of a like.
        unseen: What an item that a user never met counted as a dislike.
        item_groups: Sizes of the parts that the items' table is cut into, each factored with a rank of its
            own; the items that are met most stand first. Empty: it is one table.
        features: Rows of the table of features, of ``deepfm``. Row 0 is of none, and zero.
        user_features: How many features a user has, at most.
        item_features: Likewise an item.
    """

    model_type: Kind
    users: int
    items: int
    dim: int
    hidden: int = 0
    loss: Loss = "log-loss"
    unseen: float = 0.2
    item_groups: tuple[int, ...] = ()
    features: int = 0
    user_features: int = 0
    item_features: int = 0


def read_layout(path: Path) -> Layout:
    """What a ``config.json`` says.

    Args:
        path: The file.

    Raises:
        UnsupportedModelError: It cannot be read, or is of no model of this project; the key is named.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        layout = Layout(**{**document, "item_groups": tuple(document.get("item_groups", ()))})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnsupportedModelError(f"{path} is of no recommender: {error}", _keys()) from error
    for name, allowed in (("model_type", get_args(Kind)), ("loss", get_args(Loss))):
        if getattr(layout, name) not in allowed:
            raise UnsupportedModelError(
                f"{path}: {name} is {getattr(layout, name)!r}", f"known are {', '.join(allowed)}"
            )
    for name, size in _sizes(layout):
        if type(size) is not int or size < 1:
            raise UnsupportedModelError(f"{path}: {name} is {size!r}, no size", _keys())
    if layout.item_groups and (layout.model_type == "deepfm" or sum(layout.item_groups) != layout.items):
        raise UnsupportedModelError(
            f"{path}: item_groups is {[*layout.item_groups]} of {layout.items} items of {layout.model_type}",
            "it cuts the items of matrix-factorization or two-tower, all of them, into parts",
        )
    return layout


def _sizes(layout: Layout) -> Iterator[tuple[str, object]]:
    names = ["users", "items", "dim"]
    if layout.model_type != "matrix-factorization":
        names.append("hidden")
    if layout.model_type == "deepfm":
        names += ["features", "user_features", "item_features"]
    yield from ((name, getattr(layout, name)) for name in names)
    yield from (("item_groups", size) for size in layout.item_groups)


def _keys() -> str:
    return f"it has the keys {', '.join(field.name for field in fields(Layout))}"
