"""The loss of one step."""

from pathlib import Path

import pytest
import torch
from torch import nn

from edgelr.recipe.finetune import Distill, Finetune
from edgelr.runtime.text import batch_tokens, parse_tokenizer
from edgelr.tasks import sentence_embedding as task
from edgelr.tasks.sentence_losses import pair_loss, step_loss
from edgelr.tasks.task import Batch

TEXTS = ["copy a file", "how do I sort a list of numbers", "encrypt the archive"]


@pytest.fixture(scope="module")
def teacher(tiny_model: Path) -> nn.Module:
    return task.load_model(tiny_model).requires_grad_(False)


@pytest.fixture
def student(tiny_model: Path) -> nn.Module:
    return task.load_model(tiny_model)


@pytest.fixture(scope="module")
def batch(tiny_model: Path) -> Batch:
    return tokens(tiny_model, TEXTS)


def tokens(folder: Path, texts: list[str]) -> Batch:
    arrays = batch_tokens(parse_tokenizer(task.tokenizer_json(folder), 32), texts)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def perturb(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def weights(**values: float) -> Finetune:
    return Finetune(steps=10, distill=Distill(**{"embedding": 0, "similarity": 0, "hidden": 0, **values}))  # type: ignore[call-arg]


# --- step_loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["embedding", "similarity", "hidden"])
def test_the_loss_is_zero_for_the_teacher_itself_and_not_for_another(
    kind: str, teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    settings = weights(**{kind: 1.0})
    # 1 - cosine of a vector with itself is off by the rounding of fp32.
    assert abs(step_loss(student, teacher, batch, None, settings).item()) < 1e-6
    perturb(student)
    assert step_loss(student, teacher, batch, None, settings).item() > 1e-4


@pytest.mark.parametrize("kind", ["embedding", "similarity", "hidden", "task"])
def test_each_loss_alone_reaches_every_layer(
    kind: str, teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    perturb(student)
    settings = weights(**({} if kind == "task" else {kind: 1.0})).model_copy(update={"task_loss": 1.0})
    step_loss(student, teacher, batch, batch if kind == "task" else None, settings).backward()
    layers = [parameter for name, parameter in student.named_parameters() if "layer." in name]
    silent = [parameter for parameter in layers if parameter.grad is None]
    assert layers
    assert silent == []
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_losses_add_up_with_their_weights(teacher: nn.Module, student: nn.Module, batch: Batch) -> None:
    perturb(student)
    parts = [
        step_loss(student, teacher, batch, None, weights(**{kind: 1.0})).item()
        for kind in ("embedding", "similarity", "hidden")
    ]
    settings = weights(embedding=2.0, similarity=3.0, hidden=0.5)
    whole = step_loss(student, teacher, batch, None, settings).item()
    assert whole == pytest.approx(2 * parts[0] + 3 * parts[1] + 0.5 * parts[2], rel=1e-5)


def test_the_task_loss_counts_with_its_weight(
    teacher: nn.Module, student: nn.Module, tiny_model: Path, batch: Batch
) -> None:
    queries, passages = tokens(tiny_model, TEXTS), tokens(tiny_model, TEXTS[::-1])
    with torch.no_grad():
        alone = float(pair_loss(task.run(student, queries).result, task.run(student, passages).result))
        settings = weights().model_copy(update={"task_loss": 0.25})
        assert float(step_loss(student, teacher, passages, queries, settings)) == (
            pytest.approx(0.25 * alone, rel=1e-5)
        )


@pytest.mark.parametrize("kind", ["embedding", "similarity", "hidden"])
def test_queries_are_distilled_as_if_they_were_in_the_batch(
    kind: str, teacher: nn.Module, student: nn.Module, tiny_model: Path, batch: Batch
) -> None:
    perturb(student)
    queries, passages, settings = TEXTS[:2], TEXTS[1:], weights(**{kind: 1.0})
    with torch.no_grad():
        together = step_loss(student, teacher, tokens(tiny_model, passages + queries), None, settings)
        sides = tokens(tiny_model, passages), tokens(tiny_model, queries)
        apart = step_loss(student, teacher, *sides, settings)
    assert float(apart) == pytest.approx(float(together), rel=1e-4), "sums in another order"


def test_padding_does_not_change_the_hidden_loss(
    teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    perturb(student)
    wider = {name: nn.functional.pad(tensor, (0, 9)) for name, tensor in batch.items()}
    losses = [step_loss(student, teacher, each, None, weights(hidden=1.0)).item() for each in (batch, wider)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4), "sums in another order"
