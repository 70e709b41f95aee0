from pathlib import Path

import numpy as np
import pytest
import torch
from classifiers import MAX_TOKENS, TAGS, tagged_texts, write_tagger
from torch import nn

from edgelr.examples import Tagged
from edgelr.export.convert import convert
from edgelr.export.fuse import fuse_attention
from edgelr.export.graphs import matrix_count, traced_form
from edgelr.export.parity import check_parity
from edgelr.export.tidy import tidy
from edgelr.lowrank.graph_file import write_graph
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.tasks import token_classification as task
from edgelr.tasks.task import Reading

QUIET = Progress(quiet=True)
EXAMPLES = tuple(
    Tagged(id=str(number), group=str(number), text=text, tags=tags)
    for number, (text, tags) in enumerate(tagged_texts(9))
)


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return Reading(folder=write_tagger(tmp_path_factory.mktemp("tagger")), max_tokens=MAX_TOKENS)


@pytest.fixture(scope="module")
def dense(reading: Reading) -> nn.Module:
    return task.load_model(reading.folder)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_graph_equals_the_model(tmp_path: Path, family: str) -> None:
    reading = Reading(folder=write_tagger(tmp_path / family, family), max_tokens=MAX_TOKENS)
    model = task.load_model(reading.folder)
    (spec,) = task.graphs(model, reading, EXAMPLES)
    for case in spec.cases:
        mask = case["attention_mask"].bool()
        with torch.inference_mode():
            wanted = model(**case).logits[mask]
            torch.testing.assert_close(spec.module(**case)[mask], wanted, rtol=1e-4, atol=1e-4)
    graph = convert(spec, traced_form(spec.module), 20)
    assert fuse_attention(graph) == 2
    write_graph(tidy(graph, spec, matrix_count(spec.module)), tmp_path / "model.onnx")
    assert check_parity(spec, tmp_path / "model.onnx", 1e-3)[1] < 1e-3


def test_every_word_has_its_tag_at_its_first_token(reading: Reading) -> None:
    batch = task.batch_of(reading, EXAMPLES, TAGS)
    for row, example in zip(batch["labels"], EXAMPLES, strict=True):
        assert [TAGS[tag] for tag in row[row != -100]] == example.tags.split()
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()


def test_padding_changes_nothing(reading: Reading, dense: nn.Module) -> None:
    (batch,) = task.example_batches(reading, EXAMPLES, 99)
    wider = {name: nn.functional.pad(tensor, (0, 5)) for name, tensor in batch.items()}
    with torch.inference_mode():
        one, other = (task.run(dense, each).result for each in (batch, wider))
    torch.testing.assert_close(other[:, :-5], one, rtol=0, atol=1e-4)
    moved = task.distance(one + torch.randn_like(one) * (one != 0), one)
    wide = nn.functional.pad(one + 0, (0, 0, 0, 5))
    assert moved.shape == (9,)
    assert task.distance(wide, wide).abs().max() < 1e-6


def test_probe_and_distance_belong_together() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 3)
    hessian = torch.autograd.functional.hessian(lambda each: task.distance(each, logits).sum(), logits)
    total = torch.zeros(6, 6)
    for _ in range(4000):
        result = logits.clone().requires_grad_()
        task.probe(result).backward()
        total += result.grad.reshape(6, 1) @ result.grad.reshape(1, 6)
    torch.testing.assert_close(total / 4000, hessian.reshape(6, 6), rtol=0, atol=0.02)


def test_losses_distill_and_read_the_tags(reading: Reading, dense: nn.Module, tmp_path: Path) -> None:
    student = task.load_model(reading.folder)

    def loss_of(**settings: object) -> float:
        chosen = Finetune.model_validate({"steps": 1, "batch": 6, **settings})
        return float(task.losses(dense, reading, EXAMPLES, chosen, 0, tmp_path, QUIET)(student, 0).detach())

    assert abs(loss_of()) < 1e-5
    assert loss_of(task_loss=1.0) > 0.1


def test_metrics_are_those_of_packages(reading: Reading, dense: nn.Module) -> None:
    found = task.scorer(dense, reading, EXAMPLES)(dense)
    assert tuple(found) == METRICS["token-classification"]
    assert found["agreement"] == 1
    assert task.validator(dense, reading, EXAMPLES)(dense) == pytest.approx(0, abs=1e-6)
    tags = task.tags_of(dense, reading, EXAMPLES)
    right = [tag for each in EXAMPLES for tag in each.tags.split()]
    chosen = [tag for each in tags for tag in each]
    assert found["accuracy"] == pytest.approx(np.mean(np.array(chosen) == np.array(right)))


def test_tokens_are_those_of_the_texts(reading: Reading) -> None:
    seen = task.seen_tokens(reading, EXAMPLES)
    (batch,) = task.example_batches(reading, EXAMPLES, 99)
    assert set(batch["input_ids"].flatten().tolist()) <= seen
