import pytest
import torch
from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.export.unused import merge_unused
from edgelr.lowrank.embedding import low_rank_embedding, low_rank_head
from edgelr.lowrank.table import factor_table


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(12, 6)
        self.head = nn.Linear(6, 12)


def factored(model: Model, *, tied: bool) -> Model:
    dense = model.table
    factors = factor_table(dense.weight.detach().numpy(), torch.ones(12).numpy(), 3)
    table = low_rank_embedding(dense, factors)
    model.head = low_rank_head(model.head, table) if tied else model.head
    model.table = table
    return model


@pytest.mark.parametrize("low_rank", [False, True])
def test_seen_rows_stay_and_the_others_become_the_most_similar(low_rank):
    model = factored(Model(), tied=False) if low_rank else Model()
    before = model.table(torch.arange(12)).detach()
    kept = [0, 3, 11]
    assert merge_unused(model, model.table, kept) == 9
    after = model.table(torch.arange(12)).detach()
    likeness = nn.functional.cosine_similarity(before[:, None], before[None, kept], dim=-1)
    nearest = torch.tensor(kept)[likeness.argmax(dim=1)]
    torch.testing.assert_close(after, before[nearest], atol=0, rtol=0)
    assert len(after.unique(dim=0)) <= 3


def test_nothing_is_unused():
    model = Model()
    before = model.table.weight.clone()
    assert merge_unused(model, model.table, range(12)) == 0
    assert torch.equal(model.table.weight, before)


@pytest.mark.parametrize("low_rank", [False, True])
def test_a_head_that_reads_the_table_is_named(low_rank):
    model = Model()
    if low_rank:
        factored(model, tied=True)
    else:
        model.head.weight = model.table.weight
    with pytest.raises(UnsupportedModelError, match="'head' reads the tokens' table too"):
        merge_unused(model, model.table, {0})


def test_what_is_no_embedding_is_named():
    model = Model()
    with pytest.raises(UnsupportedModelError, match="is Linear, which is not an embedding"):
        merge_unused(model, model.head, {0})
