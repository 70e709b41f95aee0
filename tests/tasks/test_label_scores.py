from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from edgelr.errors import UnsupportedModelError
from edgelr.recipe.finetune import Finetune
from edgelr.tasks.label_scores import check_one_label, distance, label_loss, labels_of, nearness, probe
from edgelr.tasks.task import Outputs


def test_probe_and_distance_belong_together() -> None:
    """The mean of the probe's squared gradients is the Hessian of the distance."""
    torch.manual_seed(0)
    logits = torch.randn(1, 4)
    hessian = torch.autograd.functional.hessian(lambda each: distance(each, logits).sum(), logits)
    total = torch.zeros(4, 4)
    for _ in range(3000):
        result = logits.clone().requires_grad_()
        probe(result).backward()
        total += result.grad.T @ result.grad
    torch.testing.assert_close(total / 3000, hessian.reshape(4, 4), rtol=0, atol=0.02)
    assert distance(logits, logits + 3).abs().max() < 1e-6, "of the same distribution"


def test_the_loss_is_a_weighted_sum() -> None:
    torch.manual_seed(0)
    own, theirs = (Outputs(result=torch.randn(5, 3), hidden=(torch.randn(5, 4, 6),)) for _ in range(2))
    target, mask = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([[1, 1, 0, 0]] * 5)

    def loss_of(**settings: Any) -> float:
        chosen = Finetune.model_validate({"steps": 1, "label_smoothing": 0.0, **settings})
        return float(label_loss(own, theirs, target, chosen, mask))

    only = {"logits": 0.0, "hidden": 0.0}
    crossed = torch.nn.functional.cross_entropy(own.result, target)
    assert loss_of(distill=only, task_loss=1.0) == pytest.approx(float(crossed))
    divergence = distance(own.result / 2, theirs.result / 2).mean() * 4
    assert loss_of(distill={**only, "logits": 1.0, "temperature": 2.0}) == pytest.approx(float(divergence))
    mine, other = own.hidden[0][:, :2], theirs.hidden[0][:, :2]
    error = (mine - other).square().sum() / other.square().sum()
    assert loss_of(distill={**only, "hidden": 1.0}) == pytest.approx(float(error)), "padding does not count"


def test_nearness_is_highest_at_the_dense_model() -> None:
    score = nearness("dense", lambda model: torch.tensor([[1.0, len(model)]]).numpy())  # type: ignore[arg-type]
    assert score("dense") == pytest.approx(0)  # type: ignore[arg-type]
    assert score("d") < -0.1  # type: ignore[arg-type]


def test_labels_go_by_their_number_and_there_are_several() -> None:
    def model(count: int, kind: str | None = None) -> Any:
        names = {number: f"n{number}" for number in reversed(range(count))}
        return SimpleNamespace(config=SimpleNamespace(num_labels=count, problem_type=kind, id2label=names))

    assert labels_of(model(3)) == ["n0", "n1", "n2"]
    check_one_label(model(2), Path("m"))
    with pytest.raises(UnsupportedModelError, match="m gives 1 scores, of regression"):
        check_one_label(model(1), Path("m"))
    with pytest.raises(UnsupportedModelError, match="of multi_label_classification"):
        check_one_label(model(3, "multi_label_classification"), Path("m"))
