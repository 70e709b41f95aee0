"""A speech model from its folder and a list of sounds to a package that needs neither torch nor them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from edgelr.artifact_files import read_factored, read_plan, read_source
from edgelr.artifacts import Package
from edgelr.cli import cli
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.examples import Utterance
from edgelr.lowrank.checkpoint import load_factored_into
from edgelr.outcome import Report
from edgelr.pipeline import build
from edgelr.runtime.examples import example_sound, folder_examples
from edgelr.runtime.package import model_path, open_package
from edgelr.runtime.transcribe import Transcriber, generate, open_transcriber, text_of, transcribe
from edgelr.tasks.speech_losses import transcribed
from edgelr.tasks.speech_model import FEATURES, collate, frames_of
from edgelr.tasks.task import Reading, get_task, load_student
from edgelr.terminal import run_command

RECIPE = """\
edgelr: 1
name: tiny-speech
task:
  type: automatic-speech-recognition
  max_tokens: 24
  window_s: 1.7
  data: {{source: file, path: sounds/utterances.jsonl, train: 2, validation: 2, test: 3}}
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
  mask_time: 0.1
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
WINDOW = 27_200


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, sounds: Path, tiny_whisper: Path) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    (folder / "sounds").symlink_to(sounds)
    (folder / "tiny-speech.yaml").write_text(RECIPE.format(model=tiny_whisper), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def report(home: Path) -> Report:
    return build(home / "tiny-speech.yaml", home / "out")


@pytest.fixture(scope="module")
def package(report: Report) -> Package:
    assert report.package is not None
    return open_package(report.package)


def made_by(home: Path, stage: str) -> Path:
    """The one artifact of a stage."""
    (manifest,) = (home / ".store" / stage).glob("*/manifest.json")
    return manifest.parent


@pytest.fixture(scope="module")
def reading(report: Report, home: Path, tiny_whisper: Path) -> Reading:
    source = read_source(made_by(home, "load"))
    return Reading(folder=tiny_whisper, max_tokens=24, sounds=source.folder / "data", window_s=1.7)


@pytest.fixture(scope="module")
def tuned(home: Path, reading: Reading) -> Any:
    """The factored model in torch, with its window cut."""
    student = load_student(get_task("automatic-speech-recognition"), reading)
    return load_factored_into(student, read_factored(made_by(home, "finetune")))


@pytest.fixture(scope="module")
def fp32(report: Report, home: Path) -> Package:
    return open_package(made_by(home, "export"))


def test_the_package_opens_and_says_what_it_is(package: Package, report: Report) -> None:
    assert report.passed
    assert (package.task, package.precision) == ("automatic-speech-recognition", "int8-dynamic")
    assert package.settings == {"max_tokens": 24, "window_samples": WINDOW}
    assert set(package.accuracy) == {"wer", "cer", "exact_match", "wer_to_dense", "agreement"}
    assert sorted(package.graphs) == ["decoder", "encoder", "features"]
    assert len(folder_examples(package.folder, Utterance)) == 3
    assert sum(file.startswith("audio/") for file in package.files) == 3


def test_the_report_has_what_counts_for_speech(report: Report) -> None:
    document = json.loads((report.out / "report.json").read_text(encoding="utf-8"))
    accuracy = {row["metric"]: row for row in document["accuracy"]}
    assert {"wer", "cer", "agreement"} <= set(accuracy)
    assert all(row["examples"] == 3 and row["variant"] == "candidate" for row in accuracy.values())
    assert [row["shape"] for row in document["latency"]] == ["1 x 1 s", "1 x 3 s"]
    for row in document["latency"]:
        parts = [row[name] for name in ("features_ms", "encoder_ms", "decoder_ms")]
        assert row["rtf"] > 0
        assert all(0 < part < row["p90_ms"] * 2 for part in parts)
    assert "real-time factor" in (report.out / "report.md").read_text(encoding="utf-8").lower()


def test_every_kind_of_layer_was_factored(report: Report, home: Path) -> None:
    plan = read_plan(made_by(home, "plan"))
    # Two convolutions, six matrices a layer of the encoder, ten a layer of the decoder, and the table.
    assert len(plan.sites) == 2 + 2 * 6 + 2 * 10 + 1
    assert plan.kept_share <= 0.5
    factored = {site for reduction in plan.reductions for site in reduction.sites}
    assert {"self_attn", "encoder_attn", "fc1", "embed_tokens"} <= {
        part for site in factored for part in site.split(".")
    }


def test_the_graphs_with_a_cut_window_give_what_torch_gives(
    fp32: Package, tuned: Any, reading: Reading, cpu: Device
) -> None:
    """Features to a ten thousandth of transformers', the encoder to float sums through all layers."""
    from transformers import WhisperFeatureExtractor

    examples = folder_examples(fp32.folder, Utterance)
    sounds = [example_sound(fp32.folder, each) for each in examples]
    pcm = np.stack([np.pad(sound, (0, WINDOW - len(sound))) for sound in sounds])
    session = open_session(model_path(fp32, "features"), cpu, entries={})
    (features,) = session.run(None, {"pcm": pcm})
    extractor = WhisperFeatureExtractor.from_pretrained(reading.folder)
    extractor.n_samples = WINDOW
    expected = extractor(sounds, sampling_rate=16_000, max_length=WINDOW, return_tensors="np")
    assert features.shape == (3, 80, frames_of(tuned)) == (3, 80, 170)
    assert np.abs(features - expected["input_features"]).max() < 1e-4
    encoder = open_session(model_path(fp32, "encoder"), cpu, entries={})
    cross = encoder.run(None, {FEATURES: features})
    with torch.inference_mode():
        states = tuned.get_encoder()(torch.from_numpy(features)).last_hidden_state
        keys = tuned.get_decoder().layers[1].encoder_attn.k_proj(states)
    expected_keys = keys.unflatten(-1, (4, 8)).transpose(1, 2)
    torch.testing.assert_close(torch.from_numpy(cross[2]), expected_keys, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_the_factored_package_says_what_torch_says(
    fp32: Package, tuned: Any, reading: Reading, speech: Any, cpu: Device, beams: int
) -> None:
    """Before any quantization, token for token, with its window cut."""
    opened = open_transcriber(fp32, cpu)
    assert isinstance(opened, Transcriber)
    sounds = [speech(number, 0.3 + 0.14 * number) for number in range(10)]
    sounds = [sound for sound in sounds if len(sound) <= WINDOW]
    assert len(sounds) == 10
    session = opened.features
    features = [
        session.run(None, {"pcm": np.pad(sound, (0, WINDOW - len(sound)))[None]})[0] for sound in sounds
    ]
    with torch.inference_mode():
        rows = tuned.generate(
            input_features=torch.from_numpy(np.concatenate(features)),
            num_beams=beams,
            max_new_tokens=22,
            return_timestamps=False,
        ).tolist()
    end = tuned.generation_config.eos_token_id
    expected = [row[: row.index(end)] if end in row else row for row in rows]
    found = [generate(opened, sound, beams=beams) for sound in sounds]
    assert [row[:-1] if row[-1] == end else row for row in found] == expected
    assert len(set(map(tuple, expected))) > 6, "or little was compared"


def test_texts_are_those_of_torch(fp32: Package, tuned: Any, reading: Reading, cpu: Device) -> None:
    examples = folder_examples(fp32.folder, Utterance)
    opened = open_transcriber(fp32, cpu)
    found = [text_of(transcribe(opened, [example_sound(fp32.folder, each)])) for each in examples]
    here = replace(reading, sounds=fp32.folder)
    assert collate(here, examples)[FEATURES].shape == (3, 80, 200), "of the whole window"
    expected = transcribed(tuned, here, examples)
    assert [" ".join(text.split()) for text in expected] == found


def test_every_loss_was_tuned_on(report: Report, home: Path) -> None:
    history = json.loads((made_by(home, "finetune") / "history.json").read_text(encoding="utf-8"))
    scores = {row["step"]: row["score"] for row in history if "score" in row}
    losses = {row["step"]: row["loss"] for row in history if "loss" in row}
    assert sorted(scores) == [0, 2, 4]
    assert sorted(losses) == [1, 2, 3, 4]
    assert np.isfinite([*scores.values(), *losses.values()]).all()
    assert max(scores.values()) < 0, "minus a divergence from the dense model"


def test_a_second_build_makes_nothing_anew(report: Report, home: Path) -> None:
    again = build(home / "tiny-speech.yaml", home / "out")
    assert all(stage["reused"] for stage in again.document["stages"])
    assert again.passed


def test_the_package_runs_where_there_is_no_torch(
    package: Package, speech: Any, tmp_path: Path, cpu: Device
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([speech(3, 1.5), speech(4, 1.5)]), 16_000)
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers'): sys.modules[name] = None\n"  # an import fails
        "from edgelr.cli import cli\n"
        f"cli.main(['run', {str(package.folder)!r}, {str(path)!r}], standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pcm = soundfile.read(path, dtype="float32")[0]
    assert done.stdout.splitlines() == [text_of(transcribe(open_transcriber(package, cpu), [pcm]))]


@pytest.mark.parametrize(
    ("change", "exit_code", "message"),
    [
        (
            ("window_s: 1.7", "window_s: 10"),
            2,
            "task.window_s: 10 s were asked for, the model's",
        ),
        (("window_s: 1.7", "language: de"), 2, "task.language: 'de' was asked for"),
        (("max_tokens: 24", "max_tokens: 40"), 2, "task.max_tokens: 40 was asked for"),
        (("window_s: 1.7", "window_s: 0.2"), 2, "task.window_s"),
        (("utterances.jsonl", "gone.jsonl"), 5, "gone.jsonl cannot be read: No such file"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_trained(
    home: Path, tmp_path: Path, capsys: Any, change: tuple[str, str], exit_code: int, message: str
) -> None:
    (tmp_path / "sounds").symlink_to(home / "sounds")
    path = tmp_path / "tiny-speech.yaml"
    path.write_text((home / "tiny-speech.yaml").read_text().replace(*change))
    assert run_command(cli, ["build", str(path), "--out", str(tmp_path / "out")]) == exit_code
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob(".store/finetune/*"))


def test_a_model_of_many_languages_must_be_told_one(
    home: Path, many_whisper: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "sounds").symlink_to(home / "sounds")
    path = tmp_path / "tiny-speech.yaml"
    path.write_text(RECIPE.format(model=many_whisper))
    assert run_command(cli, ["build", str(path), "--out", str(tmp_path / "out")]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "hears several languages, and no language is given" in error
    assert "set it to one of: de, en, zh" in error
