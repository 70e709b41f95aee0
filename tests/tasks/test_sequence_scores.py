"""What the tasks whose models write texts share; see also the tests of each task."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgelr.metrics.translation import translation_scores
from edgelr.tasks.sequence_losses import TARGETS
from edgelr.tasks.sequence_scores import as_lines, nearness, scored, texts_of
from edgelr.tasks.task import Batch, Outputs


def run(model: Any, batch: Batch) -> Outputs:
    result: Tensor = model(batch["x"])
    return Outputs(result=result.masked_fill(batch[TARGETS].unsqueeze(-1) == 0, 0.0))


def test_nearness_is_the_mean_divergence_a_token() -> None:
    torch.manual_seed(0)
    dense, other = nn.Linear(4, 7), nn.Linear(4, 7)
    masks = [torch.tensor([[1, 1, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])]
    batches = [{"x": torch.randn(*mask.shape, 4), TARGETS: mask} for mask in masks]
    score = nearness(dense, run, batches)
    assert score(dense) == 0.0
    with torch.no_grad():
        counted = torch.cat([batch["x"][batch[TARGETS].bool()] for batch in batches])
        theirs, own = dense(counted).log_softmax(-1), other(counted).log_softmax(-1)
    assert score(other) == pytest.approx(-float((theirs.exp() * (theirs - own)).sum(-1).mean()), rel=1e-5)


def test_the_dense_model_writes_once() -> None:
    dense, other = nn.Identity(), nn.Identity()
    asked: list[nn.Module] = []

    def outputs(model: nn.Module) -> list[str]:
        asked.append(model)
        return ["a b", "c d" if model is dense else "c"]

    score = scored(dense, outputs, ["a b", "c d"], translation_scores)
    assert score(dense)["agreement"] == 1.0
    assert score(other)["agreement"] == 0.5
    assert asked == [dense, other]


def test_texts_come_a_few_at_once_in_order() -> None:
    sizes: list[int] = []

    def generated(part: Any) -> list[str]:
        sizes.append(len(part))
        return [str(each) for each in part]

    assert texts_of(range(7), generated, 3) == list("0123456")
    assert sizes == [3, 3, 1]


def test_a_text_is_one_line() -> None:
    assert as_lines(["a\n b", "", "ü\u2028 c\r\n"])["dense_outputs"].tobytes().decode() == "a b\n\nü c"
