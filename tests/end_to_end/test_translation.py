"""A translation model from its folder and a file of pairs to a package that needs neither torch nor them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgelr.artifact_files import read_factored, read_plan
from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.examples import Translation
from edgelr.lowrank.checkpoint import load_factored_into
from edgelr.outcome import Report
from edgelr.pipeline import build
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import open_package
from edgelr.runtime.translate import open_translator, translate
from edgelr.tasks.task import Reading
from edgelr.tasks.translation import load_model
from edgelr.tasks.translation_losses import generated

pytest.importorskip("edgelr.load.translations_file")

RECIPE = """\
edgelr: 1
name: tiny-translation
task:
  type: translation
  max_tokens: 48
  data: {{source: file, path: {model}/pairs.tsv, train: 60, validation: 16, test: 24}}
model: {{path: {model}}}
compress:
  keep: {{parameters: 0.5}}
  vocabulary: true
  groups: [joint, query-key, value-output]
  rank_multiple: 4
  calibration: {{examples: 24, sensitivity_examples: 8}}
finetune:
  steps: 4
  batch: 8
  precision: fp32
  learning_rate: 1.0e-4
  distill: {{logits: 1, hidden: 0.5, attention: 0.5, sequence: 2}}
  task_loss: 0.5
  validate_every: 2
  checkpoint_every: 2
quantize: {{scheme: weight-int4, block_size: 16, min_cosine: 0.5}}
validate:
  devices: [cpu-1t]
  baselines: []
  tokens: [8, 24]
  seconds: 0.5
  gates:
    - {{metric: chrf, max_drop: 100}}
    - {{metric: agreement, min: 0}}
"""
VOCABULARY = 87


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("translation")


@pytest.fixture(scope="module")
def report(home: Path, tiny_translator: Path) -> Report:
    recipe = home / "tiny-translation.yaml"
    recipe.write_text(RECIPE.format(model=tiny_translator), encoding="utf-8")
    return build(recipe, home / "out")


@pytest.fixture(scope="module")
def package(report: Report) -> Package:
    assert report.package is not None
    return open_package(report.package)


def made_by(home: Path, stage: str) -> Path:
    """The one artifact of a stage."""
    (manifest,) = (home / ".store" / stage).glob("*/manifest.json")
    return manifest.parent


def test_the_package_opens_and_says_what_it_is(package: Package) -> None:
    assert (package.task, package.precision) == ("translation", "weight-int4")
    assert package.settings == {"max_tokens": 48, "source_vocabulary": VOCABULARY}
    assert set(package.accuracy) == {"bleu", "chrf", "exact_match", "agreement", "chrf_to_dense"}
    assert len(folder_examples(package.folder, Translation)) == 24


def test_the_report_has_what_counts_for_translations(report: Report) -> None:
    document = json.loads((report.out / "report.json").read_text(encoding="utf-8"))
    accuracy = {row["metric"]: row for row in document["accuracy"]}
    assert {"bleu", "chrf", "exact_match", "agreement"} <= set(accuracy)
    assert all(row["examples"] == 24 and row["variant"] == "candidate" for row in accuracy.values())
    assert [row["shape"] for row in document["latency"]] == ["1 x 8 tokens", "1 x 24 tokens"]
    for row in document["latency"]:
        assert row["tokens_per_s"] > 0
        assert 0 < row["first_token_ms"] < row["p50_ms"]
    assert report.passed
    assert "bleu by sacrebleu: " in (report.out / "report.md").read_text(encoding="utf-8")


def test_every_kind_of_layer_was_factored(report: Report, home: Path) -> None:
    plan = read_plan(made_by(home, "plan"))
    # Six matrices a layer of the encoder, ten a layer of the decoder, and the table.
    assert len(plan.sites) == 2 * 6 + 2 * 10 + 1
    assert plan.kept_share <= 0.5
    factored = {site for reduction in plan.reductions for site in reduction.sites}
    assert len(factored) > 16
    assert {"self_attn", "encoder_attn", "fc1", "fc2", "shared"} <= {
        part for site in factored for part in site.split(".")
    }
    candidates, dense = plan.candidate.parameters, plan.dense.parameters
    assert candidates < 0.6 * dense


def stored(path: Path) -> dict[str, list[Any]]:
    """Everything with a row for each token, by type; a bias has one row only."""
    tensors = onnx.load(path).graph.initializer
    found: dict[str, list[Any]] = {}
    for tensor in tensors:
        if VOCABULARY in tensor.dims and np.prod(tensor.dims) > VOCABULARY:
            found.setdefault(TensorProto.DataType.Name(tensor.data_type), []).append(list(tensor.dims))
    return found


def test_the_vocabulary_is_stored_once(package: Package, home: Path) -> None:
    (rank,) = [
        reduction.rank
        for reduction in read_plan(made_by(home, "plan")).reductions
        if "model.shared" in (*reduction.sites, *reduction.shared)
    ]
    fp32 = made_by(home, "export") / "decoder.onnx"
    assert stored(fp32) == {"FLOAT": [[rank, VOCABULARY]]}
    blocks = -(-rank // 16)
    expected = {"UINT8": [[VOCABULARY, blocks, 16]], "FLOAT": [[VOCABULARY, blocks]]}
    assert stored(package.folder / "decoder.onnx") == expected


def test_the_factored_graphs_say_what_torch_says(
    report: Report, home: Path, tiny_translator: Path, cpu: Device
) -> None:
    """Before any quantization, token for token."""
    fp32 = open_package(made_by(home, "export"))
    model = load_factored_into(load_model(tiny_translator), read_factored(made_by(home, "finetune")))
    examples = folder_examples(fp32.folder, Translation)
    reading = Reading(folder=tiny_translator, max_tokens=48)
    expected = [" ".join(text.split()) for text in generated(model, reading, examples)]
    assert len(set(expected)) > 6, "or little was compared"
    found = translate(open_translator(fp32, cpu), [each.source for each in examples], beams=1)
    assert [" ".join(text.split()) for text in found] == expected


def test_every_loss_was_tuned_on(report: Report, home: Path) -> None:
    history = json.loads((made_by(home, "finetune") / "history.json").read_text(encoding="utf-8"))
    scores = {row["step"]: row["score"] for row in history if "score" in row}
    losses = {row["step"]: row["loss"] for row in history if "loss" in row}
    assert sorted(scores) == [0, 2, 4]
    assert sorted(losses) == [1, 2, 3, 4]
    assert np.isfinite([*scores.values(), *losses.values()]).all()
    assert max(scores.values()) < 0, "minus a divergence from the dense model"


def test_a_second_build_makes_nothing_anew(report: Report, home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (home / ".store").rglob("*") if path.is_file()}
    again = build(home / "tiny-translation.yaml", home / "out")
    stages = again.document["stages"]
    assert [stage["stage"] for stage in stages] == [stage["stage"] for stage in report.document["stages"]]
    assert all(stage["reused"] for stage in stages)
    after = {path: path.stat().st_mtime_ns for path in before if path.is_file()}
    assert after == before


def test_the_package_runs_where_there_is_no_torch(package: Package, cpu: Device) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers'): sys.modules[name] = None\n"  # an import fails
        "from edgelr.cli import cli\n"
        f"cli.main(['run', {str(package.folder)!r}, 'one two', 'seven'], standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = list(translate(open_translator(package, cpu), ["one two", "seven"]))
    assert done.stdout.splitlines() == expected
    loaded = code.replace("sys.modules[name] = None", "pass") + (
        "loaded = {'torch', 'transformers'} & set(sys.modules)\nsys.exit(str(loaded) if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
