"""Losses of whole catalogs."""

import pytest
import torch

from edgelr.examples import History
from edgelr.tasks.recommendation_losses import divergence, own_loss, padded, teach

USERS = [
    History(id="a", group="a", seen=(), liked=(0, 2), disliked=(1,)),
    History(id="b", group="b", seen=(), liked=(3,), disliked=()),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_batch_shows_some_and_asks_for_all() -> None:
    shown = set()
    for seed in range(8):
        taught = teach(USERS, [5, 6], 4, seeded(seed))
        assert taught.liked.tolist() == [[1, 0, 1, 0], [0, 0, 0, 1]]
        assert taught.met.tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]
        assert taught.batch["user"].tolist() == [5, 6]
        first = set(taught.batch["seen"][0].tolist()) - {-1}
        assert first <= {0, 1, 2}
        shown.add(len(first))
    assert len(shown) > 1, "how much is shown differs"
    assert taught.on(torch.device("cpu")).met is taught.met


def test_padding() -> None:
    found = padded([torch.tensor([4, 5]), torch.tensor([], dtype=torch.int64)])
    assert found.tolist() == [[4, 5], [-1, -1]]
    assert padded([torch.tensor([], dtype=torch.int64)]).tolist() == [[-1]]


def test_log_loss_by_hand() -> None:
    taught = teach(USERS, [0, 1], 4, seeded())
    scores = torch.zeros(2, 4)
    log2 = torch.log(torch.tensor(2.0))
    found = own_loss(scores, taught, "log-loss", 0.5, seeded())
    assert found == pytest.approx(float(log2 * (4 + 0.5 * 4) / 4))
    right = 20 * (2 * taught.liked - 1)
    assert own_loss(right, taught, "log-loss", 0.5, seeded()) == pytest.approx(0, abs=1e-6)


def test_bpr_wants_likes_above_others() -> None:
    taught = teach(USERS, [0, 1], 4, seeded())
    scores = 10 * taught.liked
    assert own_loss(scores, taught, "bpr", 0.0, seeded()) == pytest.approx(4.5e-5, rel=0.1)
    assert own_loss(-scores, taught, "bpr", 0.0, seeded()) == pytest.approx(10, rel=1e-3)
    scores = torch.zeros(2, 4, requires_grad=True)
    own_loss(scores, taught, "bpr", 0.0, seeded()).backward()
    assert torch.isfinite(scores.grad).all()


def test_divergence_is_0_for_equal_scores_and_its_curvature_is_that_of_chances() -> None:
    scores = torch.tensor([[0.3, -2.0, 4.0]])
    assert divergence(scores, scores).item() == 0.0
    step = 1e-2
    chance = torch.sigmoid(scores)
    expected = (chance * (1 - chance) * step**2 / 2).mean()
    assert divergence(scores.double() + step, scores.double()).item() == pytest.approx(
        float(expected), rel=1e-2
    )
