"""What is traced equals the model it was made of."""

from pathlib import Path

import torch
from torch import nn

from edgelr.export.graphs import TextGraph, matrix_count, traceable
from edgelr.lowrank.layers import restructure
from edgelr.tasks.task import get_task

IDS = torch.tensor([[2, 40, 41, 3], [2, 50, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def test_the_wrapper_equals_the_model_padding_included(tiny_model: Path) -> None:
    model = get_task("sentence-embedding").load_model(tiny_model)
    with torch.no_grad():
        # Scaled dot-product attention sums in another order than plain attention.
        torch.testing.assert_close(TextGraph(model)(IDS, MASK), model(IDS, MASK), atol=1e-5, rtol=0)


def test_a_row_of_nothing_but_padding_is_a_finite_number(tiny_model: Path) -> None:
    model = get_task("sentence-embedding").load_model(tiny_model)
    with torch.no_grad():
        assert torch.isfinite(TextGraph(model)(IDS, torch.zeros_like(MASK))).all()


def test_the_model_itself_stays_as_it_was(tiny_model: Path) -> None:
    model = get_task("sentence-embedding").load_model(tiny_model).train()
    plain = traceable(model)
    assert not plain.training
    assert model.training
    assert model.transformer.config._attn_implementation == "sdpa"
    assert plain.transformer.config._attn_implementation == "eager"


def test_a_low_rank_layer_is_two_matrices() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4), nn.Embedding(5, 8))
    assert matrix_count(model) == 2
    restructure(model, {"2": 2})
    assert matrix_count(model) == 3
