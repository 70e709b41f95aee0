"""A Moonshine from its folder and a list of sounds to a package."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgelr.artifact_files import read_factored, read_plan
from edgelr.device.schema import Device
from edgelr.examples import Utterance
from edgelr.lowrank.checkpoint import load_factored_into
from edgelr.outcome import Report
from edgelr.pipeline import build
from edgelr.runtime.examples import example_sound, folder_examples
from edgelr.runtime.package import open_package
from edgelr.runtime.transcribe import Transcriber, generate, open_transcriber
from edgelr.tasks.task import Reading, get_task, load_student

pytestmark = pytest.mark.slow

RECIPE = """\
edgelr: 1
name: tiny-moonshine
task:
  type: automatic-speech-recognition
  max_tokens: 24
  window_s: 1.9
  data: {{source: file, path: sounds/utterances.jsonl, train: 2, validation: 2, test: 4}}
model: {{path: {model}}}
compress:
  keep: {{parameters: 0.5}}
  vocabulary: true
  groups: [joint]
  rank_multiple: 4
  calibration: {{examples: 2, sensitivity_examples: 2}}
finetune:
  steps: 4
  batch: 2
  precision: fp32
  learning_rate: 1.0e-4
  distill: {{logits: 1, hidden: 0.5, attention: 0.5, sequence: 2}}
  task_loss: 0.5
  validate_every: 2
  checkpoint_every: 2
quantize: {{scheme: int8-dynamic, min_cosine: 0.3}}
validate:
  devices: [cpu-1t]
  baselines: []
  audio_s: [1, 3]
  seconds: 0.5
  gates:
    - {{metric: wer, max_rise: 1000}}
    - {{metric: agreement, min: 0}}
"""


@pytest.fixture(scope="module", params=["plain", "odd"])
def folder(request: pytest.FixtureRequest, make_moonshine: Any) -> Path:
    found: Path = make_moonshine(request.param)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, sounds: Path, folder: Path) -> Path:
    home = tmp_path_factory.mktemp("moonshine")
    (home / "sounds").symlink_to(sounds)
    (home / "tiny-moonshine.yaml").write_text(RECIPE.format(model=folder), encoding="utf-8")
    return home


@pytest.fixture(scope="module")
def report(home: Path) -> Report:
    return build(home / "tiny-moonshine.yaml", home / "out")


def made_by(home: Path, stage: str) -> Path:
    """The one artifact of a stage."""
    (manifest,) = (home / ".store" / stage).glob("*/manifest.json")
    return manifest.parent


def test_the_package_is_whole(report: Report, home: Path) -> None:
    assert report.passed
    assert report.package is not None
    package = open_package(report.package)
    assert package.settings == {"max_tokens": 24, "window_samples": 30_400}
    assert sorted(package.graphs) == ["decoder", "encoder", "features"]
    document = json.loads((report.out / "report.json").read_text(encoding="utf-8"))
    assert [row["shape"] for row in document["latency"]] == ["1 x 1 s", "1 x 3 s"]


def test_every_kind_of_layer_was_factored(report: Report, home: Path) -> None:
    plan = read_plan(made_by(home, "plan"))
    # Three convolutions, six matrices a layer of the encoder, ten a layer of the decoder, and the table.
    assert len(plan.sites) == 3 + 2 * 6 + 2 * 10 + 1
    assert plan.kept_share <= 0.5
    factored = {part for reduction in plan.reductions for site in reduction.sites for part in site.split(".")}
    assert {"self_attn", "encoder_attn", "fc1", "embed_tokens"} <= factored


@pytest.mark.parametrize("beams", [1, 3])
def test_the_factored_package_says_what_torch_says(
    report: Report, home: Path, folder: Path, speech: Any, cpu: Device, beams: int
) -> None:
    """Before any quantization, token for token."""
    reading = Reading(folder=folder, max_tokens=24, sounds=home, window_s=1.9)
    student = load_student(get_task("automatic-speech-recognition"), reading)
    tuned: Any = load_factored_into(student, read_factored(made_by(home, "finetune")))
    opened = open_transcriber(open_package(made_by(home, "export")), cpu)
    assert isinstance(opened, Transcriber)
    found, expected = [], []
    for number in range(10):
        sound = speech(number, 0.3 + 0.14 * number)
        values = torch.from_numpy(sound)[None]
        with torch.inference_mode():
            row = tuned.generate(input_values=values, num_beams=beams, max_new_tokens=23)[0].tolist()[1:]
        expected.append(row[: row.index(2)] if 2 in row else row)
        written = generate(opened, sound, beams=beams)
        found.append(written[:-1] if written[-1] == 2 else written)
    assert found == expected
    assert len(set(map(tuple, expected))) > 6, "or little was compared"


def test_the_examples_of_the_package_are_heard(report: Report, cpu: Device) -> None:
    assert report.package is not None
    package = open_package(report.package)
    for example in folder_examples(package.folder, Utterance):
        assert np.isfinite(example_sound(package.folder, example)).all()


def test_every_loss_was_tuned_on(report: Report, home: Path) -> None:
    history = json.loads((made_by(home, "finetune") / "history.json").read_text(encoding="utf-8"))
    losses = [row["loss"] for row in history if "loss" in row]
    assert len(losses) == 4
    assert np.isfinite(losses).all()
