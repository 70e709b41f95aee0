"""A classifier that is trained from an encoder."""

import json
from pathlib import Path

import pytest
from classifiers import LABELS, MAX_TOKENS, labeled_texts, write_encoder

from edgelr.errors import DivergedError, UnsupportedModelError
from edgelr.examples import Labeled
from edgelr.progress import Progress
from edgelr.recipe.schema import TrainClassifier
from edgelr.tasks.classifier_training import train_classifier, with_head
from edgelr.tasks.encoder_folder import load_transformer
from edgelr.tasks.task import Reading, get_task

EXAMPLES = [
    Labeled(id=str(number), group=str(number), text=text, label=label)
    for number, (text, label) in enumerate(labeled_texts(120))
]
SPLITS = {"train": EXAMPLES[:90], "test": EXAMPLES[90:]}


def trained(encoder: Path, folder: Path) -> Path:
    settings = TrainClassifier(
        **{"type": "text-classifier", "path": ".", "epochs": 10, "batch": 8, "learning_rate": 3e-3}
    )
    reading = Reading(folder=encoder, max_tokens=MAX_TOKENS)
    train_classifier(settings, reading, SPLITS, folder, 0, Progress(quiet=True))
    return folder


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_it_learns_the_labels_and_is_the_same_again(tmp_path: Path, family: str) -> None:
    encoder = write_encoder(tmp_path / "encoder", family)
    first = trained(encoder, tmp_path / "first")
    assert json.loads((first / "config.json").read_text())["id2label"] == {
        str(number): label for number, label in enumerate(LABELS)
    }
    assert (first / "tokenizer.json").read_text() == (encoder / "tokenizer.json").read_text()
    task = get_task("text-classification")
    model = task.load_model(first)
    found = task.scorer(model, Reading(folder=first, max_tokens=MAX_TOKENS), SPLITS["test"])(model)
    assert found["accuracy"] > 0.8
    again = trained(encoder, tmp_path / "again")
    for name in ("model.safetensors", "config.json"):
        assert (first / name).read_bytes() == (again / name).read_bytes()


def test_a_new_head_is_on_the_same_encoder(tmp_path: Path) -> None:
    encoder = load_transformer(write_encoder(tmp_path / "encoder")).state_dict()
    model = with_head(tmp_path / "encoder", ["a", "b", "c", "d"])
    own = model.base_model.state_dict()
    assert all((own[name] == weight).all() for name, weight in encoder.items())
    assert {name for name in own if name not in encoder} == {"pooler.dense.weight", "pooler.dense.bias"}
    assert model.classifier.weight.shape == (4, 32)


def test_an_encoder_whose_kind_has_no_classifier(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder", "clip_text_model")
    with pytest.raises(UnsupportedModelError, match="of which there is no classifier of texts"):
        with_head(tmp_path / "encoder", LABELS)


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder", initializer_range=1e30)
    with pytest.raises(DivergedError, match=r"model\.train: the loss is nan in step 1"):
        trained(encoder, tmp_path / "model")
