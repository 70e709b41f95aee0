from pathlib import Path

import numpy as np
import pytest
import torch
from classifiers import LABELS, MAX_TOKENS, labeled_texts, write_classifier
from torch import nn

from edgelr.errors import DataError, UnsupportedModelError, UsageError
from edgelr.examples import Labeled
from edgelr.export.convert import convert
from edgelr.export.fuse import fuse_attention
from edgelr.export.graphs import matrix_count, traced_form
from edgelr.export.parity import check_parity
from edgelr.export.tidy import tidy
from edgelr.lowrank.graph_file import write_graph
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.runtime.labels import read_labels
from edgelr.tasks import text_classification as task
from edgelr.tasks.task import Reading

QUIET = Progress(quiet=True)
EXAMPLES = tuple(
    Labeled(id=str(number), group=str(number), text=text, label=label)
    for number, (text, label) in enumerate(labeled_texts(12))
)


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return Reading(folder=write_classifier(tmp_path_factory.mktemp("bert")), max_tokens=MAX_TOKENS)


@pytest.fixture(scope="module")
def dense(reading: Reading) -> nn.Module:
    return task.load_model(reading.folder)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_a_graph_equals_the_model(tmp_path: Path, family: str) -> None:
    reading = Reading(folder=write_classifier(tmp_path / family, family), max_tokens=MAX_TOKENS)
    model = task.load_model(reading.folder)
    (spec,) = task.graphs(model, reading, EXAMPLES)
    for case in spec.cases:  # the mask that is made in the graph is that of transformers
        with torch.inference_mode():
            torch.testing.assert_close(spec.module(**case), model(**case).logits, rtol=1e-4, atol=1e-4)
    graph = convert(spec, traced_form(spec.module), 20)
    assert fuse_attention(graph) == 2
    write_graph(tidy(graph, spec, matrix_count(spec.module)), tmp_path / "model.onnx")
    assert check_parity(spec, tmp_path / "model.onnx", 1e-3)[1] < 1e-3


def test_models_that_choose_no_label_are_named(tmp_path: Path) -> None:
    write_classifier(tmp_path / "several", problem_type="multi_label_classification")
    with pytest.raises(UnsupportedModelError, match="3 scores, of multi_label_classification"):
        task.load_model(tmp_path / "several")


def test_a_model_without_its_head_is_named(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"missing: classifier\.bias, classifier\.weight"):
        task.load_model(tmp_path)


def test_more_tokens_than_positions_are_named(reading: Reading, dense: nn.Module) -> None:
    task.check_reach(dense, reading)
    with pytest.raises(UsageError, match="41 was asked for, the model has 40 positions"):
        task.check_reach(dense, Reading(folder=reading.folder, max_tokens=41))


def test_losses_distill_and_read_the_labels(reading: Reading, dense: nn.Module, tmp_path: Path) -> None:
    student = task.load_model(reading.folder)

    def loss_of(examples: tuple[Labeled, ...] = EXAMPLES, **settings: object) -> float:
        chosen = Finetune.model_validate({"steps": 1, "batch": 6, **settings})
        return float(task.losses(dense, reading, examples, chosen, 0, tmp_path, QUIET)(student, 0).detach())

    assert abs(loss_of()) < 1e-5
    assert loss_of(task_loss=1.0) > 0.1
    with torch.no_grad():
        student.get_submodule("classifier").weight.mul_(2)
    assert loss_of(distill={"hidden": 0.0}) > 1e-3
    assert abs(loss_of(distill={"logits": 0.0})) < 1e-5, "hidden states are the same still"
    unknown = (Labeled(id="x", group="x", text="cat", label="plants"), *EXAMPLES)
    with pytest.raises(DataError, match="the label 'plants' is none of the model's: animals, numbers, tools"):
        loss_of(unknown, task_loss=1.0)


def test_metrics_are_those_of_packages(reading: Reading, dense: nn.Module) -> None:
    score = task.scorer(dense, reading, EXAMPLES)
    found = score(dense)
    assert tuple(found) == METRICS["text-classification"]
    assert found["agreement"] == 1
    chosen = [
        LABELS[row] for row in task.scores_of(dense, reading, [each.text for each in EXAMPLES]).argmax(1)
    ]
    assert found["accuracy"] == np.mean([a == b.label for a, b in zip(chosen, EXAMPLES, strict=True)])
    assert task.validator(dense, reading, EXAMPLES)(dense) == pytest.approx(0, abs=1e-6)


def test_a_package_has_labels_and_dense_scores(reading: Reading, dense: nn.Module, tmp_path: Path) -> None:
    arrays = task.furnish(tmp_path, dense, dense, reading, EXAMPLES, QUIET)
    assert arrays["dense_logits"].shape == (12, 3)
    assert read_labels(tmp_path) == list(LABELS)
    assert (tmp_path / "tokenizer.json").is_file()
    assert task.package_settings(dense, reading) == {"max_tokens": MAX_TOKENS}


def test_tokens_are_those_of_the_texts(reading: Reading, dense: nn.Module) -> None:
    seen = task.seen_tokens(reading, EXAMPLES)
    ids = {
        int(token)
        for batch in task.example_batches(reading, EXAMPLES, 4)
        for token in batch["input_ids"].flatten()
    }
    assert ids <= seen
    assert isinstance(task.token_table(dense), nn.Embedding)
