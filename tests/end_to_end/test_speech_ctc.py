"""A model with CTC from its folder and a list of sounds to a package: its heads become smaller, too."""

from pathlib import Path
from typing import Any

import pytest

from edgelr.artifact_files import read_factored, read_plan, read_source
from edgelr.device.schema import Device
from edgelr.examples import Utterance
from edgelr.lowrank.checkpoint import load_factored_into
from edgelr.outcome import Report
from edgelr.pipeline import build
from edgelr.runtime.examples import example_sound, folder_examples
from edgelr.runtime.package import open_package
from edgelr.runtime.transcribe import open_transcriber, text_of, transcribe
from edgelr.tasks.ctc_model import transcribed
from edgelr.tasks.task import Reading, get_task

RECIPE = """\
edgelr: 1
name: tiny-ctc
task:
  type: automatic-speech-recognition
  data: {{source: file, path: sounds/utterances.jsonl, train: 2, validation: 2, test: 4}}
model: {{path: {model}}}
compress:
  keep: {{parameters: 0.6}}
  exclude: ["*.feature_extractor.*"]
  rank_multiple: 4
  calibration: {{examples: 2, sensitivity_examples: 2}}
finetune:
  steps: 4
  batch: 2
  precision: fp32
  learning_rate: 1.0e-4
  distill: {{logits: 1, hidden: 0.5}}
  task_loss: 0.5
  validate_every: 2
  checkpoint_every: 2
validate:
  devices: [cpu-1t]
  baselines: []
  audio_s: [1]
  seconds: 0.3
  gates:
    - {{metric: wer, max_rise: 1000}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, sounds: Path, make_ctc: Any) -> Path:
    folder = tmp_path_factory.mktemp("ctc")
    (folder / "sounds").symlink_to(sounds)
    recipe = RECIPE.format(model=make_ctc("wav2vec2"))
    (folder / "tiny-ctc.yaml").write_text(recipe, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def report(home: Path) -> Report:
    return build(home / "tiny-ctc.yaml", home / "out")


def made_by(home: Path, stage: str) -> Path:
    (manifest,) = (home / ".store" / stage).glob("*/manifest.json")
    return manifest.parent


def test_it_passes_and_says_its_factors(report: Report, home: Path) -> None:
    assert report.passed
    rows = report.document["latency"]
    assert all(row["rtf"] > 0 and row["encoder_ms"] > 0 for row in rows)
    forms = {reduction.form for reduction in read_plan(made_by(home, "plan")).reductions}
    assert forms & {"query-key", "value-output"}, forms
    assert "low-rank" in forms or "joint" in forms


def test_it_writes_what_the_tuned_model_writes_in_torch(
    report: Report, home: Path, sounds: Path, cpu: Device
) -> None:
    assert report.package is not None
    package = open_package(report.package)
    examples = folder_examples(package.folder, Utterance)
    transcriber = open_transcriber(package, cpu)
    found = [text_of(transcribe(transcriber, [example_sound(package.folder, each)])) for each in examples]
    task, source = get_task("automatic-speech-recognition"), read_source(made_by(home, "load"))
    reading = Reading(folder=source.model_folder, max_tokens=128, sounds=source.folder / "data")
    model = load_factored_into(task.load_model(source.model_folder), read_factored(made_by(home, "finetune")))
    assert found == transcribed(model, reading, examples)
