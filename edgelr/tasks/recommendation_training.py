"""Train a recommender from nothing: the dense model of a recipe that says ``model: {train: ...}``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from edgelr.artifacts import Split
from edgelr.errors import DivergedError
from edgelr.examples import History
from edgelr.progress import Progress
from edgelr.recipe.recommend import Train
from edgelr.runtime.catalog import Catalog
from edgelr.tasks.deepfm import DeepFM
from edgelr.tasks.order import epoch_batches
from edgelr.tasks.recommendation import catalog_of, goodness
from edgelr.tasks.recommendation_layout import Layout
from edgelr.tasks.recommendation_losses import own_loss, padded, teach
from edgelr.tasks.recommendation_model import Recommender, call, make_model, save_model
from edgelr.tasks.task import Reading

Facts = Mapping[str, tuple[str, ...]]
"""User or item -> what is known of it, in words."""

_ASK_EVERY = 5  # epochs
_PATIENCE = 4  # times in a row that the validation may be no better


def train_model(
    settings: Train,
    splits: Mapping[Split, Sequence[History]],
    facts: tuple[Facts, Facts],
    folder: Path,
    seed: int,
    progress: Progress,
) -> None:
    """Train a model on the users' past; the best on what came next is kept. The seed decides everything.

    Args:
        settings: The recipe's section.
        splits: ``train`` and ``validation`` are used.
        facts: What is known of users, and of items.
        folder: Has the lists of users and items; configuration and weights are written there.
        seed: Of weights and order.
        progress: Where to show how far it is.

    Raises:
        DivergedError: The loss is not finite.
    """
    reading = Reading(folder=folder, max_tokens=0)
    catalog = catalog_of(reading)
    layout = Layout(
        model_type=settings.type,
        users=len(catalog.users),
        items=len(catalog.items),
        dim=settings.dim,
        hidden=settings.hidden if settings.type != "matrix-factorization" else 0,
        loss=settings.loss,
        unseen=settings.unseen,
        item_groups=_parts(settings.item_groups, splits["train"], len(catalog.items)),
    )
    torch.manual_seed(seed)
    model = _with_features(layout, catalog, facts) if settings.type == "deepfm" else make_model(layout)
    rows = [catalog.users[each.id] for each in splits["train"]]
    score = goodness(reading, splits["validation"])
    _fit(model, settings, (splits["train"], rows), score, seed, progress)
    save_model(model, folder)


def _parts(shares: Sequence[float], examples: Sequence[History], items: int) -> tuple[int, ...]:
    """Sizes of the parts of a table whose first rows are met most."""
    met = [row for each in examples for row in (*each.liked, *each.disliked)]
    reached = torch.bincount(torch.tensor(met), minlength=items).cumsum(0) / len(met)
    ends = sorted({min(items, int((reached < share).sum()) + 1) for share in shares} | {items})
    return tuple(end - start for start, end in pairwise([0, *ends])) if shares else ()


def _with_features(layout: Layout, catalog: Catalog, facts: tuple[Facts, Facts]) -> Recommender:
    """A model that knows which of all facts there are each user and item has."""
    words = sorted({fact for each in facts for listed in each.values() for fact in listed})
    rows = {word: row for row, word in enumerate(words, start=1)}  # row 0 is of no fact
    tables = []
    for names, known in zip((catalog.users, catalog.items), facts, strict=True):
        listed = [
            torch.tensor([rows[fact] for fact in known.get(name, ())], dtype=torch.int64) for name in names
        ]
        tables.append(padded(listed).clamp(min=0))
    users, items = tables
    wide = replace(layout, user_features=users.shape[1], item_features=items.shape[1])
    model = make_model(replace(wide, features=len(words) + 1))
    assert isinstance(model, DeepFM)
    model.user_features, model.item_features = users, items
    return model


def _fit(
    model: Recommender,
    settings: Train,
    users: tuple[Sequence[History], Sequence[int]],
    score: Callable[[nn.Module], float],
    seed: int,
    progress: Progress,
) -> None:
    """Train in place; the model ends with the weights of its best validation."""
    examples, rows = users
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    best, best_score, stale = copy.deepcopy(model.state_dict()), float("-inf"), 0
    with progress.bar("training the dense model", settings.epochs) as advance:
        for epoch in range(settings.epochs):
            for batch in epoch_batches((0,) * len(examples), settings.batch, seed, epoch):
                chosen = [examples[index] for index in batch]
                taught = teach(chosen, [rows[index] for index in batch], model.layout.items, generator)
                scores = call(model, taught.batch)
                loss = own_loss(scores, taught, settings.loss, settings.unseen, generator)
                used = model.users(taught.batch["user"]).square().sum(-1).mean()
                every = model.items.weight.square().sum(-1).mean()
                _step(optimizer, loss + settings.shrink * (used + every), epoch)
            if (epoch + 1) % _ASK_EVERY == 0 or epoch + 1 == settings.epochs:
                found = score(model)
                stale = 0 if found > best_score else stale + 1
                if not stale:
                    best, best_score = copy.deepcopy(model.state_dict()), found
            advance(note=f"validation {best_score:.4f}")
            if stale == _PATIENCE:
                break
    model.load_state_dict(best)


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor, epoch: int) -> None:
    if not torch.isfinite(loss):
        raise DivergedError(
            f"model.train: the loss is {loss.item()} in epoch {epoch + 1}", "lower model.train.learning_rate"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
