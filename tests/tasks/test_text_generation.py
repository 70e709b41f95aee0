"""The task's own functions, on a tiny Llama."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgelr.artifacts import Package
from edgelr.examples import Passage
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.runtime.arrays import read_arrays
from edgelr.tasks.task import Reading, get_task

Passages = tuple[Passage, ...]
task = get_task("text-generation")


@pytest.fixture(scope="module")
def reading(make_causal: Callable[[str], Path]) -> Reading:
    return Reading(folder=make_causal("llama"), max_tokens=64)


@pytest.fixture(scope="module")
def model(reading: Reading) -> torch.nn.Module:
    return task.load_model(reading.folder)


def changed(model: torch.nn.Module, reading: Reading) -> torch.nn.Module:
    other = task.load_model(reading.folder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.05)
    return other


def test_the_dense_model_is_at_no_distance_from_itself(
    model: torch.nn.Module, reading: Reading, passages: Passages
) -> None:
    score = task.validator(model, reading, passages[:4])
    assert score(model) == pytest.approx(0, abs=1e-6)
    assert score(changed(model, reading)) < -0.01


def test_scores_have_every_metric(model: torch.nn.Module, reading: Reading, passages: Passages) -> None:
    score = task.scorer(model, reading, passages[:4])
    own, other = score(model), score(changed(model, reading))
    assert tuple(own) == METRICS["text-generation"]
    assert own["agreement"] == own["agreed_tokens"] == 1.0
    assert other["agreed_tokens"] < 1.0


def test_tokens_that_are_seen_include_the_special_ones(reading: Reading, passages: Passages) -> None:
    seen = task.seen_tokens(reading, passages[:1])
    assert {0, 1, 2} < seen


@pytest.mark.parametrize("sequence", [0, 1])
def test_a_loss_has_gradients(
    model: torch.nn.Module, reading: Reading, passages: Passages, sequence: int, tmp_path: Path
) -> None:
    settings = Finetune.model_validate(
        {"steps": 2, "batch": 2, "task_loss": 0.5, "distill": {"hidden": 0.5, "sequence": sequence}}
    )
    progress = Progress(quiet=True)
    loss = task.losses(model, reading, passages[:4], settings, 0, tmp_path, progress)
    student = changed(model, reading)
    value = loss(student, 0)
    value.backward()
    assert float(value) > 0
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_what_a_package_has_besides_its_graph(dense_writer: Package, passages: Passages) -> None:
    settings = json.loads((dense_writer.folder / "generation.json").read_text())
    assert settings["max_length"] == dense_writer.settings["max_tokens"] == 64
    assert (settings["decoder_start_token_id"], settings["eos_token_id"]) == (1, [2])
    stored = read_arrays(dense_writer.folder / "reference.npz")
    assert {name: array.shape for name, array in stored.items()} == {
        "dense_losses": (24,),
        "dense_tokens": (24,),
        "dense_continuations": (24, 16),
    }


def test_more_tokens_than_positions_are_refused(model: torch.nn.Module, reading: Reading) -> None:
    from edgelr.errors import UsageError

    with pytest.raises(UsageError, match="the model has 128 positions"):
        task.check_reach(model, replace(reading, max_tokens=129))
