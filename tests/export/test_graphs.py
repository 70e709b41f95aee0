"""What is traced equals the model it was made of."""

from pathlib import Path

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from edgelr.export.graphs import TextGraph, matrix_count, traceable
from edgelr.lowrank.reduce import restructure
from edgelr.structure import Form, Reduction
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
    restructure(model, [Reduction(form="low-rank", sites=("2",), rank=2)])
    assert matrix_count(model) == 3


def test_a_shared_down_is_one_matrix_and_narrow_heads_are_as_many_as_before() -> None:
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(7)))
    restructure(model, [Reduction(form="joint", sites=("0", "1", "2"), rank=2)])
    assert matrix_count(model) == 1 + 3 + 4
    pairs: tuple[tuple[Form, tuple[str, str]], ...] = (
        ("query-key", ("3", "4")),
        ("value-output", ("5", "6")),
    )
    restructure(model, [Reduction(form=form, sites=sites, rank=1, heads=2) for form, sites in pairs])
    assert matrix_count(traceable(model)) == 1 + 3 + 4


def test_narrow_heads_are_traced_as_plain_linears_that_compute_the_same() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(2)))
    restructure(model, [Reduction(form="value-output", sites=("0", "1"), rank=3, heads=2)])
    plain = traceable(model)
    assert all(isinstance(layer, nn.Linear) for layer in plain)
    assert not any(isinstance(layer, nn.Linear) for layer in model), "the model itself keeps its layers"
    x = torch.randn(3, 8)
    torch.testing.assert_close(plain(x), model(x))


def test_every_kind_of_layer_is_counted_dense_and_factored() -> None:
    model = nn.ModuleDict(
        {
            "emb": nn.Embedding(9, 8),
            "head": nn.Linear(8, 9),
            "twin": nn.Linear(8, 8),
            "other": nn.Linear(8, 8),
        }
    )
    model.update({"gpt": Conv1D(8, 8), "conv": nn.Conv2d(4, 8, 3), "time": nn.Conv1d(4, 8, 3)})
    model["head"].weight, model["other"].weight = model["emb"].weight, model["twin"].weight
    assert matrix_count(model) == 5  # the head; twin and other; gpt; two convolutions
    reductions = {
        "emb": Reduction(
            form="low-rank", sites=("emb",), rank=2, shared=("head",)
        ),  # up, its transpose, table
        "twin": Reduction(form="low-rank", sites=("twin",), rank=2, shared=("other",)),
        "gpt": Reduction(form="low-rank", sites=("gpt",), rank=2),
        "conv": Reduction(form="spatial", sites=("conv",), rank=2),
        "time": Reduction(form="low-rank", sites=("time",), rank=2),
    }
    restructure(model, list(reductions.values()))
    assert matrix_count(model) == 3 + 2 + 2 + 2 + 2


def test_a_layer_with_transposed_weights_is_traced_as_a_plain_linear() -> None:
    model = nn.Sequential(Conv1D(6, 8)).eval()
    nn.init.normal_(model[0].bias)
    plain, x = traceable(model), torch.randn(2, 3, 8)
    assert isinstance(plain[0], nn.Linear)  # type: ignore[index]
    assert isinstance(model[0], Conv1D)
    torch.testing.assert_close(plain(x), model(x))
