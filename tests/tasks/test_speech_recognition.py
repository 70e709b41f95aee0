"""Whisper as the stages see it."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgelr.artifacts import Package, Source
from edgelr.errors import UsageError
from edgelr.examples import Utterance
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.generation import read_generation
from edgelr.tasks import speech_recognition as task
from edgelr.tasks.speech_folder import tokenizer_of
from edgelr.tasks.speech_losses import transcribed
from edgelr.tasks.speech_model import FEATURES, collate, shorten_window, window_samples
from edgelr.tasks.task import Reading, get_task, load_student, reading_of

Spoken = tuple[Utterance, ...]
QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def model(tiny_whisper: Path) -> nn.Module:
    return task.load_model(tiny_whisper)


@pytest.fixture(scope="module")
def other(model: nn.Module) -> nn.Module:
    """A disturbed model."""
    changed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return changed


def test_the_task_hears_utterances(model: nn.Module, tiny_whisper: Path) -> None:
    found = get_task("automatic-speech-recognition")
    assert found.EXAMPLE is Utterance
    assert found.SHRINKS_HEADS == "*encoder.layers.*"
    assert type(found.load_model(tiny_whisper)) is type(model)


def test_a_reading_is_what_the_recipe_says(tmp_path: Path) -> None:
    from edgelr.recipe.tasks import Recognize

    data = {"source": "spoken-phrases"}
    plain = Recognize.model_validate({"type": "automatic-speech-recognition", "data": data, "max_tokens": 32})
    source = Source(
        folder=tmp_path / "s", model_folder=tmp_path, fingerprint="f", title="m", license=None, counts={}
    )
    sounds = tmp_path / "s" / "data"
    expected = Reading(folder=tmp_path, max_tokens=32, fingerprint="f", sounds=sounds)
    assert reading_of(source, plain) == expected
    full = plain.model_copy(update={"language": "de", "window_s": 1.5})
    assert reading_of(source, full) == replace(expected, source_language="de", window_s=1.5)


def test_the_student_has_the_recipes_window(speech_reading: Reading) -> None:
    found = get_task("automatic-speech-recognition")
    assert window_samples(load_student(found, speech_reading)) == 32_000
    assert window_samples(load_student(found, replace(speech_reading, window_s=1.5))) == 24_000
    with pytest.raises(UsageError, match=r"task\.window_s: 10 s were asked for, the model's window is 2 s"):
        load_student(found, replace(speech_reading, window_s=10.0))


def test_nothing_is_remembered_of_a_folder_that_was_changed(
    tiny_whisper: Path, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_whisper, tmp_path / "model"))

    def first(fingerprint: str) -> int:
        reading = replace(speech_reading, folder=folder, fingerprint=fingerprint)
        return int(collate(reading, utterances[:1])["decoder_input_ids"][0, 1])

    before = first("before")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "no_timestamps_token_id": 5}))
    assert (first("before"), first("after")) == (before, 5)


# --- scores ---------------------------------------------------------------------------------------------


def test_the_dense_model_agrees_with_itself(
    model: nn.Module, other: nn.Module, speech_reading: Reading, utterances: Spoken
) -> None:
    score = task.scorer(model, speech_reading, utterances)
    own = score(model)
    assert tuple(own) == METRICS["automatic-speech-recognition"]
    assert (own["agreement"], own["wer_to_dense"]) == (1.0, 0.0)
    assert score(copy.deepcopy(model)) == own, "an equal model is run, and says the same"
    changed = score(other)
    assert changed["agreement"] < 1.0
    assert changed["wer_to_dense"] > 0.0


def test_scores_are_against_the_references(
    model: nn.Module, speech_reading: Reading, utterances: Spoken
) -> None:
    said = transcribed(model, speech_reading, utterances)
    right = [replace(example, text=text) for example, text in zip(utterances, said, strict=True)]
    found = task.scorer(model, speech_reading, right)(model)
    assert (found["wer"], found["cer"], found["exact_match"]) == (0.0, 0.0, 1.0)
    wrong = task.scorer(model, speech_reading, utterances)(model)
    assert wrong["wer"] > 50
    assert wrong["exact_match"] == 0.0


def test_the_best_checkpoint_is_the_one_nearest_to_the_dense_model(
    model: nn.Module, other: nn.Module, speech_reading: Reading, utterances: Spoken
) -> None:
    score = task.validator(model, speech_reading, utterances)
    assert score(model) == 0.0
    halfway = copy.deepcopy(model)
    with torch.no_grad():
        for mine, theirs in zip(halfway.parameters(), other.parameters(), strict=True):
            mine.add_(0.2 * (theirs - mine))
    assert score(other) < score(halfway) < 0.0
    cut = copy.deepcopy(model)
    shorten_window(cut, 1.0)
    assert score(cut) < 0.0, "a shorter window is held against the whole one"


# --- tokens ---------------------------------------------------------------------------------------------


def test_seen_tokens_are_those_of_the_transcripts_and_the_special_ones(
    speech_reading: Reading, utterances: Spoken
) -> None:
    tokenizer = tokenizer_of(speech_reading)
    plain = tokenizer(utterances[0].text, add_special_tokens=False).input_ids
    found = task.seen_tokens(speech_reading, utterances[:1])
    assert found == {*plain, *tokenizer.all_special_ids}
    assert set(range(289, 297)) <= found
    assert task.seen_tokens(speech_reading, utterances) > found


def test_the_settings_of_a_package_are_what_its_runtime_needs(
    model: nn.Module, speech_reading: Reading
) -> None:
    assert task.package_settings(model, speech_reading) == {"max_tokens": 24, "window_samples": 32_000}
    cut = copy.deepcopy(model)
    shorten_window(cut, 1.5)
    assert task.package_settings(cut, speech_reading)["window_samples"] == 24_000


# --- what a package holds -------------------------------------------------------------------------------


def furnished(folder: Path, model: nn.Module, reading: Reading, examples: Spoken) -> Any:
    folder.mkdir()
    return task.furnish(folder, model, model, reading, examples, QUIET)


def lines(arrays: dict[str, Any]) -> list[str]:
    assert list(arrays) == ["dense_outputs"]
    return arrays["dense_outputs"].tobytes().decode("utf-8").split("\n")


def test_a_package_is_furnished_with_what_the_runtime_reads_back(
    model: nn.Module, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    arrays = furnished(tmp_path / "p", model, speech_reading, utterances)
    assert read_generation(tmp_path / "p").decoder_start_token_id == 290
    assert all((tmp_path / "p" / example.audio).is_file() for example in utterances)
    assert arrays["dense_outputs"].dtype == np.uint8
    expected = [transcribed(model, speech_reading, [example])[0] for example in utterances]
    assert lines(arrays) == expected


def test_the_dense_model_listens_once_for_all_packages_of_a_build(
    model: nn.Module, speech_reading: Reading, utterances: Spoken, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first = furnished(tmp_path / "a", model, speech_reading, utterances[:5])

    def never(*_: object) -> list[str]:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(task, "transcribed", never)
        assert lines(furnished(tmp_path / "b", model, speech_reading, utterances[:5])) == lines(first)
        with pytest.raises(AssertionError):
            furnished(tmp_path / "c", model, speech_reading, utterances[:6])


def test_the_dense_model_hears_its_whole_window(
    model: nn.Module, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    """Also for a candidate whose window was cut."""
    cut = copy.deepcopy(model)
    shorten_window(cut, 1.0)
    reading = replace(speech_reading, window_s=1.0)
    (tmp_path / "p").mkdir()
    found = task.furnish(tmp_path / "p", cut, model, reading, utterances, QUIET)
    assert lines(found) == transcribed(model, speech_reading, utterances)


def test_a_line_break_in_a_transcript_stays_in_its_line(
    model: nn.Module, speech_reading: Reading, utterances: Spoken, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(task, "transcribed", lambda *args: ["a\n b", "", "ü\u2028 c\r\n"][: len(args[2])])
    monkeypatch.setattr(task, "_dense_outputs", {})
    assert lines(furnished(tmp_path / "a", model, speech_reading, utterances[:3])) == ["a b", "", "ü c"]


# --- graphs ---------------------------------------------------------------------------------------------


def test_parity_cases_are_batches_of_windows_and_one_window_at_its_first_token(
    model: nn.Module, speech_reading: Reading, utterances: Spoken
) -> None:
    features, encoder, decoder = task.graphs(model, speech_reading, utterances)
    assert [tuple(case["pcm"].shape) for case in features.cases] == [(2, 32_000), (1, 32_000), (3, 32_000)]
    assert [len(case[FEATURES]) for case in encoder.cases] == [2, 1, 3]
    assert [case["past_key_0"].shape[2] for case in decoder.cases] == [3, 0, 5]
    assert decoder.cases[1]["input_ids"].tolist() == [[290]], "the start token"


def test_one_short_example_is_enough(model: nn.Module, speech_reading: Reading, utterances: Spoken) -> None:
    for spec in task.graphs(model, speech_reading, [replace(utterances[0], text="")]):
        assert len(spec.cases) == 3


def test_a_cut_window_has_cases_of_its_own_size(
    model: nn.Module, speech_reading: Reading, utterances: Spoken
) -> None:
    cut = copy.deepcopy(model)
    shorten_window(cut, 1.2)
    features, encoder, _ = task.graphs(cut, speech_reading, utterances)
    assert features.cases[0]["pcm"].shape == (2, 19_200)
    assert encoder.cases[0][FEATURES].shape == (2, 80, 120)


def test_the_package_of_the_export_stage_is_whole(
    dense_speech: Package, model: nn.Module, utterances: Spoken
) -> None:
    assert set(dense_speech.files) == {
        *(f"{role}.onnx" for role in ("features", "encoder", "decoder")),
        *(example.audio for example in utterances),
        *("tokenizer.json", "tokenizer_config.json", "generation.json"),
        *("examples.jsonl", "reference.npz", "LICENSE-NOTICE"),
    }
    assert dense_speech.settings == {"max_tokens": 24, "window_samples": 32_000}
    assert list(read_arrays(dense_speech.folder / "reference.npz", ["dense_outputs"])) == ["dense_outputs"]
    parameters = sum(each.numel() for each in model.parameters())
    assert dense_speech.cost.parameters == parameters, "features are computed, with no parameter"


def test_a_language_is_told_by_the_package(
    many_whisper: Path, many_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    model = task.load_model(many_whisper)
    german = furnished(tmp_path / "a", model, many_reading, utterances[:4])
    english = furnished(tmp_path / "b", model, replace(many_reading, source_language="en"), utterances[:4])
    assert lines(german) != lines(english)
    prompts = [read_generation(tmp_path / name).prompt_ids for name in "ab"]
    assert [len(prompt) for prompt in prompts] == [3, 3]
    assert prompts[0] != prompts[1]
