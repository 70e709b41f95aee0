"""The task's functions for models with CTC; and a package of one, next to torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgelr.artifacts import SPLITS, Package, Source
from edgelr.device.load import load_devices
from edgelr.device.session import open_session
from edgelr.errors import UsageError
from edgelr.examples import Utterance, write_examples
from edgelr.export.label import Label
from edgelr.export.stage import export
from edgelr.progress import Progress
from edgelr.quantize.stage import quantize
from edgelr.recipe.finetune import Finetune
from edgelr.recipe.quantize import Quantize
from edgelr.recipe.schema import Export
from edgelr.recipe.tasks import Recognize
from edgelr.runtime.examples import example_sound
from edgelr.runtime.package import model_path
from edgelr.runtime.timed_transcript import timed_transcript
from edgelr.runtime.transcribe import CtcTranscriber, text_of, transcribe, transcriber_of
from edgelr.tasks import ctc_recognition as task
from edgelr.tasks.ctc_model import load_model, transcribed
from edgelr.tasks.task import Reading
from edgelr.validate.accuracy import score_variant

Utterances = tuple[Utterance, ...]
QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def reading(make_ctc: Any, sounds: Path) -> Reading:
    return Reading(folder=make_ctc("wav2vec2"), max_tokens=64, sounds=sounds)


@pytest.fixture(scope="module")
def package(
    make_ctc: Any, sounds: Path, utterances: Utterances, tmp_path_factory: pytest.TempPathFactory
) -> Package:
    home = tmp_path_factory.mktemp("ctc")
    (home / "data").symlink_to(sounds)
    for split in SPLITS:
        write_examples(home / "data" / f"{split}.jsonl", utterances)
    source = Source(
        folder=home,
        model_folder=make_ctc("wav2vec2"),
        fingerprint="f",
        title="tiny",
        license=None,
        counts=dict.fromkeys(SPLITS, len(utterances)),
    )
    settings = Recognize.model_validate(
        {"type": "automatic-speech-recognition", "data": {"source": "spoken-phrases"}}
    )
    folder = home / "package"
    folder.mkdir()
    label = Label(name="ctc", task=settings, macs=1)
    return export(source, None, label, Export(), folder, QUIET)  # type: ignore[call-arg]


def opened(package: Package) -> CtcTranscriber:
    device = load_devices()["cpu-1t"]
    sessions = {role: open_session(model_path(package, role), device) for role in package.graphs}
    found = transcriber_of(package, sessions)
    assert isinstance(found, CtcTranscriber)
    return found


def test_a_package_writes_what_torch_writes(
    package: Package, reading: Reading, utterances: Utterances
) -> None:
    expected = transcribed(load_model(reading.folder), reading, utterances)
    transcriber = opened(package)
    found = [text_of(transcribe(transcriber, [example_sound(package.folder, each)])) for each in utterances]
    assert found == expected
    assert len(set(found)) > 4


def test_a_search_over_prefixes_writes_too(package: Package, utterances: Utterances) -> None:
    transcriber, sound = opened(package), example_sound(package.folder, utterances[-1])
    (wide,) = transcribe(transcriber, [sound], beams=8)
    assert wide.text
    parts = timed_transcript(transcriber, sound, 1)
    assert len(parts) == 3
    assert all(part > 0 for part in parts)


@pytest.mark.parametrize("samples", [1, 399, 401, 801])
def test_a_sound_of_a_moment_is_no_crash(package: Package, samples: int) -> None:
    list(transcribe(opened(package), [np.zeros(samples, np.float32)]))


def test_of_a_quantized_one_only_the_model_is_another(package: Package, tmp_path: Path) -> None:
    folder = tmp_path / "q"
    folder.mkdir()
    small = quantize(package, Quantize.model_validate({"scheme": "int8-dynamic"}), folder, QUIET)
    assert small.files["features.onnx"] == package.files["features.onnx"]
    assert small.cost.bytes < 0.8 * package.cost.bytes
    sessions = {
        role: open_session(model_path(small, role), load_devices()["cpu-1t"]) for role in small.graphs
    }
    assert score_variant(small, sessions, package)["wer_to_dense"].value < 60


def test_the_teacher_itself_has_no_loss(reading: Reading, utterances: Utterances, tmp_path: Path) -> None:
    model = load_model(reading.folder)
    settings = Finetune.model_validate({"steps": 2, "batch": 4, "task_loss": 0.0})
    loss = task.losses(model, reading, utterances, settings, 0, tmp_path, QUIET)
    assert loss(model, 0).item() == pytest.approx(0, abs=1e-5)
    own = Finetune.model_validate({"steps": 2, "batch": 4, "task_loss": 1.0})
    assert task.losses(model, reading, utterances, own, 0, tmp_path, QUIET)(model, 0).item() > 0.1


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_a_student_learns_with_positions_that_it_does_not_hear(
    make_ctc: Any, sounds: Path, utterances: Utterances, tmp_path: Path, kind: str
) -> None:
    """As transformers masks them in training, with the embedding that it keeps for that."""
    reading = Reading(folder=make_ctc(kind), max_tokens=64, sounds=sounds)
    model = load_model(reading.folder)
    settings = Finetune.model_validate({"steps": 2, "batch": 4, "mask_time": 0.2})
    loss = task.losses(model, reading, utterances, settings, 0, tmp_path, QUIET)
    assert loss(model, 0).item() > 1e-3
    assert loss(model, 0).item() == loss(model, 0).item() != loss(model, 1).item()
    batch = task.collate(reading, utterances[:3])
    hidden = torch.zeros_like(batch["attention_mask"], dtype=torch.bool)
    hidden[:, 5:15] = True
    found = task.run(model, {**batch, "mask_time_indices": hidden}, hidden=True)
    clean = task.run(model, batch, hidden=True)
    inner: Any = getattr(model, kind)
    with torch.no_grad():
        inner.masked_spec_embed.add_(1.0)
        other = task.run(model, {**batch, "mask_time_indices": hidden}, hidden=True)
        again = task.run(model, batch, hidden=True)
    assert not torch.equal(found.result, clean.result)
    assert not torch.equal(found.result, other.result), "it stands where nothing is heard"
    assert torch.equal(clean.result, again.result)


def test_a_model_without_an_embedding_for_it_cannot_be_masked(
    make_ctc: Any, sounds: Path, utterances: Utterances, tmp_path: Path
) -> None:
    reading = Reading(folder=make_ctc("wav2vec2"), max_tokens=64, sounds=sounds)
    model: Any = load_model(reading.folder)
    model.config.apply_spec_augment = False
    settings = Finetune.model_validate({"steps": 1, "mask_time": 0.1})
    with pytest.raises(UsageError, match=r"finetune\.mask_time: this model has no masked positions"):
        task.losses(model, reading, utterances, settings, 0, tmp_path, QUIET)


def test_attention_to_a_source_is_nothing_to_distill(
    reading: Reading, utterances: Utterances, tmp_path: Path
) -> None:
    model = load_model(reading.folder)
    settings = Finetune.model_validate({"steps": 1, "distill": {"attention": 1.0}})
    with pytest.raises(UsageError, match="no decoder that looks at anything"):
        task.losses(model, reading, utterances, settings, 0, tmp_path, QUIET)


def test_scores_are_those_of_the_transcripts(reading: Reading, utterances: Utterances) -> None:
    model = load_model(reading.folder)
    scores = task.scorer(model, reading, utterances)(model)
    assert (scores["agreement"], scores["wer_to_dense"]) == (1.0, 0.0)
    validate = task.validator(model, reading, utterances)
    assert validate(model) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)  # type: ignore[union-attr, operator]
    assert validate(model) < -1e-3
    assert task.seen_tokens(reading, utterances) >= {0, 4}
