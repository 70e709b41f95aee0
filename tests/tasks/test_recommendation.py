"""The torch face of recommendation."""

import inspect
import shutil
from pathlib import Path

import pytest
import torch
from recommendation_fixtures import ITEMS, USERS

from edgelr.errors import UnsupportedModelError
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.tasks import recommendation
from edgelr.tasks.recommendation_model import call, load_model
from edgelr.tasks.task import Reading, Task

QUIET = Progress(quiet=True)


@pytest.fixture
def reading(shop: Path) -> Reading:
    return Reading(folder=shop / "two-tower", max_tokens=0)


@pytest.fixture
def model(shop: Path) -> torch.nn.Module:
    return load_model(shop / "two-tower")


def test_it_has_every_function_of_a_task() -> None:
    for name, wanted in vars(Task).items():
        if inspect.isfunction(wanted) and name[0] != "_":
            parameters = list(inspect.signature(wanted).parameters)[1:]
            assert list(inspect.signature(getattr(recommendation, name)).parameters) == parameters, name


def test_lists_and_tables_fit(shop: Path, model, reading: Reading, tmp_path: Path) -> None:
    recommendation.check_reach(model, reading)
    folder = Path(shutil.copytree(reading.folder, tmp_path / "model"))
    with (folder / "items.txt").open("a") as stream:
        stream.write("one more\n")
    with pytest.raises(
        UnsupportedModelError, match=rf"has {ITEMS + 1} lines, the model's table {ITEMS} rows"
    ):
        recommendation.check_reach(model, Reading(folder=folder, max_tokens=0))
    (folder / "users.txt").unlink()
    with pytest.raises(UnsupportedModelError, match=r"users\.txt cannot be read"):
        recommendation.check_reach(model, Reading(folder=folder, max_tokens=0, fingerprint="new"))


def test_every_item_that_was_met_is_looked_up_once(model, reading: Reading, shop_splits) -> None:
    counted = torch.zeros(ITEMS)

    def count(_: object, arguments: tuple[torch.Tensor]) -> None:
        counted.index_add_(0, arguments[0].flatten(), mask.flatten().float())

    batches = recommendation.example_batches(reading, shop_splits["train"], 8)
    assert sum(len(batch["user"]) for batch in batches) == USERS
    model.items.register_forward_pre_hook(count)
    for batch in batches:
        mask = batch["attention_mask"]
        recommendation.run(model, batch)
    met = [row for each in shop_splits["train"] for row in (*each.liked, *each.disliked)]
    expected = torch.bincount(torch.tensor(met), minlength=ITEMS).float()
    assert torch.equal(counted, 2 * expected), "by the model, which reads them, and for their count"
    assert recommendation.seen_tokens(reading, shop_splits["train"]) == set(met)
    assert recommendation.token_table(model) is model.items


def test_the_probe_has_the_curvature_of_the_distance() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([[0.5, -3.0]], dtype=torch.float64)
    squares = torch.zeros(2, dtype=torch.float64)
    for _ in range(4000):
        leaf = scores.clone().requires_grad_()
        recommendation.probe(leaf).backward()
        squares += leaf.grad[0] ** 2 / 4000
    leaf = scores.clone()
    hessian = torch.autograd.functional.hessian(
        lambda s: recommendation.distance(s, scores).sum(), leaf + 1e-9
    )
    torch.testing.assert_close(squares, hessian[0, :, 0].diagonal(), rtol=0.1, atol=0)


def test_a_copy_of_the_teacher_has_nothing_to_learn_but_the_task(
    model, reading: Reading, shop_splits
) -> None:
    settings = Finetune(steps=2, batch=8)
    scratch = Path()
    loss = recommendation.losses(model, reading, shop_splits["train"], settings, 0, scratch, QUIET)
    assert loss(model, 0).item() == pytest.approx(0, abs=1e-7)
    settings = Finetune(steps=2, batch=8, task_loss=1.0)
    loss = recommendation.losses(model, reading, shop_splits["train"], settings, 0, scratch, QUIET)
    first = loss(model, 0).item()
    assert first > 0.1
    assert loss(model, 0).item() == first
    assert loss(model, 1).item() != first


def test_scores_and_what_picks_the_best(model, reading: Reading, shop_splits) -> None:
    scored = recommendation.scorer(model, reading, shop_splits["test"])(model)
    assert tuple(scored) == METRICS["recommendation"]
    assert scored["overlap@20"] == 1.0
    close = recommendation.validator(model, reading, shop_splits["test"])
    assert close(model) == pytest.approx(0, abs=1e-7)
    best = recommendation.goodness(reading, shop_splits["test"])
    assert best(model) == pytest.approx(scored["auc"] + scored["ndcg@20"])
    with torch.no_grad():
        model.items.weight.neg_()
        model.catalog.bias.neg_()
    assert best(model) != pytest.approx(scored["auc"] + scored["ndcg@20"]), "of a model as it is now"
    assert close(model) < -0.1


def test_one_graph(model, reading: Reading, shop: Path, shop_splits) -> None:
    (graph,) = recommendation.graphs(model, reading, shop_splits["test"])
    assert [len(case["user"]) for case in graph.cases] == [2, 1, 3]
    assert list(graph.cases[0]) == ["user", "seen"]
    assert graph.idle == ()
    plain = load_model(shop / "matrix-factorization")
    (graph,) = recommendation.graphs(plain, reading, shop_splits["test"])
    assert list(graph.cases[0]) == ["user"]
    assert graph.idle == (plain.items,)
    assert call(plain, graph.cases[0]).shape == (2, ITEMS)
    assert recommendation.package_settings(plain, reading) == {}
