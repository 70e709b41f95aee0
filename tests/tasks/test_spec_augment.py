"""Spans that are not heard."""

import numpy as np
import pytest
import torch

from edgelr.tasks.spec_augment import hidden_spans


def spans(share: float, *, length: int = 100, seed: int = 0) -> torch.Tensor:
    return hidden_spans(2000, length, share, 10, np.random.default_rng(seed))


@pytest.mark.parametrize("share", [0.02, 0.05, 0.2])
def test_about_as_much_is_hidden_as_asked(share: float) -> None:
    hidden = spans(share)
    assert hidden.shape == (2000, 100)
    assert 0.8 * share < hidden.float().mean() < 1.1 * share
    assert len({tuple(row.tolist()) for row in hidden}) > 1, "each row has its own"


def test_what_is_hidden_are_spans() -> None:
    for row in spans(0.1)[:50]:
        edges = torch.diff(torch.nn.functional.pad(row.int(), (1, 1)))
        lengths = torch.where(edges == -1)[0] - torch.where(edges == 1)[0]
        assert all(length >= 10 for length in lengths.tolist())


def test_the_same_chance_hides_the_same() -> None:
    assert torch.equal(spans(0.1), spans(0.1))
    assert not torch.equal(spans(0.1), spans(0.1, seed=1))


def test_ends_and_short_sounds_can_be_hidden_too() -> None:
    hidden = spans(0.3)
    assert hidden[:, 0].any()
    assert hidden[:, -1].any()
    assert spans(0.9, length=4).shape == (2000, 4)
    assert not spans(0.0).any()
