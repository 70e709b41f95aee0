"""A classifier of texts, from a CSV to a validated package; its parts are tested beside each module."""

import json
from pathlib import Path

import pytest
from classifiers import LABELS, write_classifier, write_encoder, write_recipe

from edgelr.cli import cli
from edgelr.metrics import METRICS
from edgelr.pipeline import build
from edgelr.runtime.package import open_package
from edgelr.terminal import run_command


def test_the_package_is_small_and_judged_by_labels(built_classifier: Path) -> None:
    package = open_package(built_classifier / "package")
    assert {"labels.json", "tokenizer.json", "model.onnx"} <= set(package.files)
    assert tuple(package.accuracy) == METRICS["text-classification"]
    report = json.loads((built_classifier / "report.json").read_text())
    assert report["model"]["candidate"]["parameters"] < report["model"]["dense"]["parameters"]
    assert {row["shape"] for row in report["latency"]} == {"1 x 8 tokens"}


def test_a_label_that_the_model_lacks_is_found_by_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classifier(tmp_path / "model", id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1})
    recipe = write_recipe(tmp_path)
    assert run_command(cli, ["plan", str(recipe), "--out", str(tmp_path / "out")]) == 5
    assert "is none of the model's: a, b" in capsys.readouterr().err


def test_a_classifier_that_is_trained_first_drops_tokens_that_no_text_has(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder", vocab_size=400)  # the tokenizer has 200 at most
    recipe = write_recipe(tmp_path)
    section = "model: {train: {type: text-classifier, path: encoder, learning_rate: 3.0e-3, batch: 6}}"
    text = recipe.read_text().replace("model: {path: model}", section)
    recipe.write_text(text + "export: {drop_unused_tokens: true}\n")
    build(recipe, tmp_path / "out")
    package = open_package(tmp_path / "out" / "package")
    assert json.loads((package.folder / "labels.json").read_text()) == list(LABELS)
    whole = json.loads((tmp_path / "out" / "report.json").read_text())["model"]["dense"]["parameters"]
    assert package.cost.parameters < whole - 200 * 32
