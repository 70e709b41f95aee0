"""What a recommender is trained and tuned by: log-loss or BPR of a whole catalog, and the dense model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgelr.examples import History
from edgelr.tasks.recommendation_layout import Loss
from edgelr.tasks.task import Batch

_SHOWN = 0.5  # of what a user met: a model that reads it must not learn to repeat it


@dataclass(frozen=True, kw_only=True)
class Taught:
    """Users with what they did, ready for a loss.

    Attributes:
        batch: What the model reads.
        liked: 1 where a user liked an item, ``[batch, items]``.
        met: 1 where they met it at all.
    """

    batch: Batch
    liked: Tensor
    met: Tensor

    def on(self, device: torch.device) -> Taught:
        """The same, where a model is."""
        batch = {name: tensor.to(device) for name, tensor in self.batch.items()}
        return Taught(batch=batch, liked=self.liked.to(device), met=self.met.to(device))


def teach(examples: Sequence[History], rows: Sequence[int], items: int, generator: torch.Generator) -> Taught:
    """Make a batch: a random half of what each user met is shown to the model, and all of it is asked for.

    Args:
        examples: The users.
        rows: Of each user.
        items: Of the catalog.
        generator: Decides which half.
    """
    liked, met = torch.zeros(2, len(examples), items)
    for row, example in enumerate(examples):
        liked[row, list(example.liked)] = 1.0
        met[row, [*example.liked, *example.disliked]] = 1.0
    shown = [
        torch.tensor([*example.liked, *example.disliked], dtype=torch.int64)[
            torch.rand(len(example.liked) + len(example.disliked), generator=generator) < _SHOWN
        ]
        for example in examples
    ]
    batch = {"user": torch.tensor(rows), "seen": padded(shown), "item": torch.arange(items)}
    return Taught(batch=batch, liked=liked, met=met)


def padded(lists: Sequence[Tensor]) -> Tensor:
    """Lists of items as one tensor ``[lists, longest]``, at least one wide, with -1 behind shorter ones."""
    longest = max(1, *(len(each) for each in lists))
    return torch.stack([nn.functional.pad(each, (0, longest - len(each)), value=-1) for each in lists])


def own_loss(scores: Tensor, taught: Taught, loss: Loss, unseen: float, generator: torch.Generator) -> Tensor:
    """The loss of the task itself, a mean over what was met.

    Args:
        scores: ``[batch, items]``.
        taught: What there was to like.
        loss: ``log-loss``: cross entropy of liked and disliked items, and of all others as dislikes of less
            weight. ``bpr``: how often a like is above a random item that is none.
        unseen: That weight.
        generator: Decides which item is compared with.

    Source:
        Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback (UAI 2009), section 4.
    """
    if loss == "log-loss":
        weights = taught.met + unseen * (1 - taught.met)
        each = nn.functional.binary_cross_entropy_with_logits(scores, taught.liked, reduction="none")
        return (each * weights).sum() / taught.met.sum().clamp(min=1)
    others = torch.rand(taught.liked.shape, generator=generator).to(scores.device)
    others = others.masked_fill(taught.liked > 0, -1.0)
    # Every like of a user against items in random order: as many different ones as there are likes.
    order = others.argsort(dim=1, descending=True)
    users, items = taught.liked.nonzero(as_tuple=True)
    place = torch.cat([torch.arange(int(count)) for count in taught.liked.sum(1)]).to(scores.device)
    disliked = order[users, place % scores.shape[1]]
    return -nn.functional.logsigmoid(scores[users, items] - scores[users, disliked]).mean()


def divergence(scores: Tensor, reference: Tensor) -> Tensor:
    """Of the probabilities of a like, ``[batch]``: the mean over the catalog, 0 when the scores are equal.

    Args:
        scores: Log-odds, ``[batch, items]``.
        reference: Likewise.
    """
    target = torch.sigmoid(reference)
    own = nn.functional.binary_cross_entropy_with_logits(scores, target, reduction="none")
    least = nn.functional.binary_cross_entropy_with_logits(reference, target, reduction="none")
    return (own - least).mean(-1).clamp(min=0)
