"""The learning rate over the steps, and the loss of one step."""

from pathlib import Path

import pytest
import torch
from torch import nn

from edgelr.finetune.losses import learning_rate, step_loss
from edgelr.recipe.schema import Distill, Finetune
from edgelr.runtime.text import batch_tokens, parse_tokenizer
from edgelr.tasks.task import Batch, Task, get_task

TEXTS = ["copy a file", "how do I sort a list of numbers", "encrypt the archive"]


@pytest.fixture(scope="module")
def task() -> Task:
    return get_task("sentence-embedding")


@pytest.fixture(scope="module")
def teacher(task: Task, tiny_model: Path) -> nn.Module:
    return task.load_model(tiny_model).requires_grad_(False)


@pytest.fixture
def student(task: Task, tiny_model: Path) -> nn.Module:
    return task.load_model(tiny_model)


@pytest.fixture(scope="module")
def batch(task: Task, tiny_model: Path) -> Batch:
    return tokens(task, tiny_model, TEXTS)


def tokens(task: Task, folder: Path, texts: list[str]) -> Batch:
    arrays = batch_tokens(parse_tokenizer(task.tokenizer_json(folder), 32), texts)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def perturb(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def weights(**values: float) -> Finetune:
    return Finetune(steps=10, distill=Distill(**{"embedding": 0, "similarity": 0, "hidden": 0, **values}))  # type: ignore[call-arg]


# --- learning_rate --------------------------------------------------------------------------------


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    settings = Finetune(steps=100, warmup_share=0.1, learning_rate=0.5)  # type: ignore[call-arg]
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(0.5), "the peak is reached once, at the end of the warm-up"
    assert rates[55] == pytest.approx(0.25), "half way down"
    assert 0 < rates[99] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(("steps", "share"), [(1, 0.0), (1, 0.9), (2, 0.99), (3, 0.0)])
def test_the_rate_is_never_zero_or_above_its_peak(steps: int, share: float) -> None:
    settings = Finetune(steps=steps, warmup_share=share, learning_rate=0.1)  # type: ignore[call-arg]
    assert all(0 < learning_rate(step, settings) <= 0.1 for step in range(steps))


# --- step_loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["embedding", "similarity", "hidden"])
def test_the_loss_is_zero_for_the_teacher_itself_and_not_for_another(
    kind: str, task: Task, teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    settings = weights(**{kind: 1.0})
    # 1 - cosine of a vector with itself is off by the rounding of fp32.
    assert abs(step_loss(task, student, teacher, batch, None, settings).item()) < 1e-6
    perturb(student)
    assert step_loss(task, student, teacher, batch, None, settings).item() > 1e-4


@pytest.mark.parametrize("kind", ["embedding", "similarity", "hidden", "task"])
def test_each_loss_alone_reaches_every_layer(
    kind: str, task: Task, teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    perturb(student)
    settings = weights(**({} if kind == "task" else {kind: 1.0})).model_copy(update={"task_loss": 1.0})
    step_loss(task, student, teacher, batch, (batch, batch) if kind == "task" else None, settings).backward()
    layers = [parameter for name, parameter in student.named_parameters() if "layer." in name]
    silent = [parameter for parameter in layers if parameter.grad is None]
    assert layers
    assert silent == []
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_losses_add_up_with_their_weights(
    task: Task, teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    perturb(student)
    parts = [
        step_loss(task, student, teacher, batch, None, weights(**{kind: 1.0})).item()
        for kind in ("embedding", "similarity", "hidden")
    ]
    settings = weights(embedding=2.0, similarity=3.0, hidden=0.5)
    whole = step_loss(task, student, teacher, batch, None, settings).item()
    assert whole == pytest.approx(2 * parts[0] + 3 * parts[1] + 0.5 * parts[2], rel=1e-5)


def test_the_task_loss_counts_with_its_weight(
    task: Task, teacher: nn.Module, student: nn.Module, tiny_model: Path, batch: Batch
) -> None:
    queries, passages = tokens(task, tiny_model, TEXTS), tokens(task, tiny_model, TEXTS[::-1])
    with torch.no_grad():
        alone = float(task.pair_loss(task.run(student, queries).result, task.run(student, passages).result))
        settings = weights().model_copy(update={"task_loss": 0.25})
        assert float(step_loss(task, student, teacher, batch, (queries, passages), settings)) == (
            pytest.approx(0.25 * alone, rel=1e-5)
        )


def test_padding_does_not_change_the_hidden_loss(
    task: Task, teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    perturb(student)
    wider = {name: nn.functional.pad(tensor, (0, 9)) for name, tensor in batch.items()}
    losses = [
        step_loss(task, student, teacher, each, None, weights(hidden=1.0)).item() for each in (batch, wider)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4), "sums in another order"
