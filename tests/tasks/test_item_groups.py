"""Items in parts: the same scores as of one table, each part with factors of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from recommendation_fixtures import ITEMS

from edgelr.export.convert import convert
from edgelr.export.fuse import fuse_attention
from edgelr.export.graphs import matrix_count, traced_form
from edgelr.export.parity import check_parity
from edgelr.export.tables import share_tables
from edgelr.export.tidy import tidy
from edgelr.export.top import rank_inside
from edgelr.lowrank.graph_file import write_graph
from edgelr.lowrank.reduce import restructure
from edgelr.structure import Reduction
from edgelr.tasks import recommendation
from edgelr.tasks.item_groups import GroupedTable, NarrowUsers, cut_items, is_whole
from edgelr.tasks.recommendation_model import call, folded, load_model
from edgelr.tasks.task import Reading

SIZES = (5, 15, 20)
BATCH = {"user": torch.tensor([3, 0]), "seen": torch.tensor([[1, 7, 39], [5, 20, -1]])}
KINDS = ("matrix-factorization", "two-tower")


def cut(shop: Path, kind: str, ranks: tuple[int, ...] = ()) -> torch.nn.Module:
    """A model in parts, the first of them factored to these ranks with random numbers."""
    model = load_model(shop / kind)
    cut_items(model, SIZES)
    parts = [
        Reduction(form="low-rank", sites=(f"items.parts.{at}",), rank=rank, shared=(f"catalog.parts.{at}",))
        for at, rank in enumerate(ranks)
    ]
    if ranks:
        restructure(model, [Reduction(form="low-rank", sites=("users",), rank=5), *parts])
        torch.manual_seed(1)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
        for part in list(model.items.parts)[: len(ranks)]:
            part.table.data[-1] = 0.0  # as factors of a row of zeros are
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_one_table(shop: Path, kind: str) -> None:
    whole, model = load_model(shop / kind), cut(shop, kind)
    torch.testing.assert_close(call(model, BATCH), call(whole, BATCH))
    torch.testing.assert_close(
        model.items(BATCH["seen"].clamp(min=0)), whole.items(BATCH["seen"].clamp(min=0))
    )
    assert torch.equal(model.items.weight, whole.items.weight)
    assert torch.equal(model.catalog.bias, whole.catalog.bias)
    assert is_whole(model)
    assert not is_whole(whole)
    merged = folded(model)
    assert isinstance(merged.items, torch.nn.Embedding), "a dense model is exported with one table"
    assert isinstance(model.items, GroupedTable), "and stays what it is"
    torch.testing.assert_close(call(merged, BATCH), call(whole, BATCH))


def test_what_a_part_lacks_is_zeros_that_no_tuning_moves(shop: Path) -> None:
    model = cut(shop, "two-tower", (2, 2, 2))
    call(model, BATCH).sum().backward()
    for part in model.items.parts:
        assert not part.table.grad[-1].any()


def test_factored_parts_fold_into_a_narrow_user(shop: Path) -> None:
    model = cut(shop, "matrix-factorization", (4, 3, 1))
    narrow = folded(model)
    assert isinstance(narrow, NarrowUsers)
    torch.testing.assert_close(call(narrow, BATCH), call(model, BATCH), rtol=1e-4, atol=1e-4)
    assert [part.weight.shape for part in narrow.parts] == [(5, 4), (15, 3), (20, 1)]
    some = cut(shop, "matrix-factorization", (4, 3))
    assert folded(some) is some, "one part is dense"


@pytest.mark.parametrize(("kind", "ranks"), [(KINDS[0], (4, 3, 1)), (KINDS[1], (4, 3))])
def test_the_graph_scores_and_ranks_as_torch_does(
    shop: Path, shop_splits, tmp_path: Path, kind: str, ranks: tuple[int, ...]
) -> None:
    model, reading = cut(shop, kind, ranks), Reading(folder=shop / kind, max_tokens=0)
    (spec,) = recommendation.graphs(model, reading, shop_splits["test"])
    graph = convert(spec, traced_form(spec.module), 20)
    fuse_attention(graph)
    proto = tidy(graph, spec, matrix_count(spec.module, spec.idle))
    share_tables(proto)
    path = tmp_path / "model.onnx"
    write_graph(proto, path)
    cases, worst = check_parity(spec, path, 1e-3)  # scores of random factors are tens
    assert cases[0]["scores"].shape == (2, ITEMS)
    assert worst < 1e-3
    told = rank_inside(proto, path, 10, cases)
    assert np.array_equal(told[0]["scores"], cases[0]["scores"])
    stored = sum(np.prod(each.dims) for each in proto.graph.initializer)
    assert stored < 30 * 16 + sum(parameter.numel() for parameter in model.parameters())
