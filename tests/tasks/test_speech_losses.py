"""What a speech model is tuned on: see also ``test_sequence_losses.py``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgelr.examples import Utterance
from edgelr.progress import Progress
from edgelr.recipe.finetune import Distill, Finetune
from edgelr.tasks.sequence_losses import TARGETS
from edgelr.tasks.speech_losses import losses, transcribed
from edgelr.tasks.speech_model import FEATURES, collate, load_model, run, shorten_window
from edgelr.tasks.task import Reading

Spoken = tuple[Utterance, ...]
QUIET = Progress(quiet=True)


@pytest.fixture
def teacher(tiny_whisper: Path) -> Any:
    return load_model(tiny_whisper).requires_grad_(False)


@pytest.fixture
def student(tiny_whisper: Path) -> Any:
    return load_model(tiny_whisper)


def disturbed(model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def weights(task_loss: float = 0.0, **values: float) -> Finetune:
    distill = Distill.model_validate({"logits": 0.0, "hidden": 0.0, "attention": 0.0, **values})
    return Finetune(steps=3, batch=4, task_loss=task_loss, distill=distill)  # type: ignore[call-arg]


KINDS = {
    "logits": weights(logits=1.0),
    "hidden": weights(hidden=1.0),
    "attention": weights(attention=1.0),
    "task": weights(task_loss=1.0),
}


@pytest.mark.parametrize("kind", ["logits", "hidden", "attention"])
def test_the_loss_is_zero_for_the_teacher_itself_and_not_for_another(
    kind: str, teacher: Any, student: Any, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    loss = losses(teacher, speech_reading, utterances, KINDS[kind], 0, tmp_path, QUIET)
    assert loss(student, 0).item() == 0
    assert loss(disturbed(student), 0).item() > 1e-4
    assert list(tmp_path.iterdir()) == [], "nothing is transcribed unless it is asked for"


@pytest.mark.parametrize("kind", KINDS)
def test_each_loss_alone_reaches_encoder_and_decoder(
    kind: str, teacher: Any, student: Any, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    loss = losses(teacher, speech_reading, utterances, KINDS[kind], 0, tmp_path, QUIET)
    loss(disturbed(student), 0).backward()
    reached = {name for name, parameter in student.named_parameters() if parameter.grad is not None}
    for part in ("encoder.conv1", "encoder.layers.0.fc1", "decoder.layers.0.self_attn.v_proj"):
        assert any(part in name for name in reached)
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_with_a_shorter_window_learns_of_the_teachers_first_part(
    kind: str, teacher: Any, student: Any, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    """The same features, of which it reads fewer."""
    shorten_window(student, 1.2)
    loss = losses(teacher, speech_reading, utterances, KINDS[kind], 0, tmp_path, QUIET)
    before = loss(student, 0)
    assert torch.isfinite(before)
    assert before.item() > 0, "it sees less"
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        loss(student, 0).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
    assert loss(student, 0).item() < before.item()


def test_hidden_states_of_the_first_part_are_compared_position_by_position(
    teacher: Any, student: Any, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    """By hand, of the encoder's and the decoder's layers."""
    shorten_window(student, 1.2)
    loss = losses(teacher, speech_reading, utterances[:4], KINDS["hidden"], 0, tmp_path, QUIET)
    batch = collate(speech_reading, utterances[:4])
    with torch.no_grad():
        mine, theirs = (run(model, batch, hidden=True).hidden for model in (student, teacher))
        counted = batch[TARGETS].unsqueeze(-1).float()
        expected = []
        for one, other in zip(mine, theirs, strict=True):
            same = other[:, : one.shape[1]]
            mask = torch.ones_like(one[..., :1]) if one.shape[1] == 60 else counted
            expected.append((((one - same) * mask).square().sum() / (same * mask).square().sum()).item())
        assert len(expected) == 4
        assert loss(student, 0).item() == pytest.approx(sum(expected) / 4, rel=1e-4)  # rows in another order


def masked(share: float, kind: str = "logits") -> Finetune:
    return KINDS[kind].model_copy(update={"mask_time": share})


def test_what_is_masked_only_the_student_does_not_hear(
    teacher: Any, student: Any, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    heard: dict[str, list[Any]] = {"teacher": [], "student": []}
    for name, model in (("teacher", teacher), ("student", student)):
        model.register_forward_pre_hook(
            lambda _, __, given, name=name: heard[name].append(given["input_features"]), with_kwargs=True
        )
    loss = losses(teacher, speech_reading, utterances, masked(0.2), 0, tmp_path, QUIET)
    assert loss(student, 0).item() > 1e-4, "it is the teacher, but hears less"
    (clean,), (hidden,) = heard.values()
    silent = (hidden == 0).all(dim=1)
    assert 0.1 < silent.float().mean() < 0.25
    assert torch.equal(hidden.masked_fill(silent[:, None], 1.0), clean.masked_fill(silent[:, None], 1.0))
    assert not (clean == 0).all(dim=1).any()


@pytest.mark.parametrize("kind", KINDS)
def test_masks_depend_on_seed_and_step_alone(
    kind: str, teacher: Any, student: Any, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    def values(seed: int, share: float = 0.2) -> list[float]:
        loss = losses(teacher, speech_reading, utterances[:4], masked(share, kind), seed, tmp_path, QUIET)
        return [loss(student, step).item() for step in (1, 0, 1)]

    first = values(0)
    assert values(0) == first
    assert first[0] == first[2] != first[1], "whatever was done before, so a run may be resumed"
    assert values(1) != first
    assert values(0, share=0.0) != first


def test_the_tasks_own_loss_is_that_of_transformers(
    teacher: Any, student: Any, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    settings = KINDS["task"].model_copy(update={"label_smoothing": 0.0})
    loss = losses(teacher, speech_reading, utterances[:4], settings, 0, tmp_path, QUIET)
    batch = collate(speech_reading, utterances[:4])
    with torch.no_grad():
        expected = student(
            input_features=batch[FEATURES],
            decoder_input_ids=batch["decoder_input_ids"],
            labels=batch["labels"],
        ).loss
        assert loss(student, 0).item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_step_hears_the_same_sounds_whenever_it_is_asked_for(
    teacher: Any, student: Any, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    disturbed(student)

    def loss() -> Any:
        return losses(teacher, speech_reading, utterances, KINDS["logits"], 3, tmp_path, QUIET)

    first = [loss()(student, number).item() for number in range(3)]
    assert len(set(first)) == 3
    again = loss()
    assert [again(student, number).item() for number in (2, 0, 1)] == [first[2], first[0], first[1]]


def test_references_are_the_dense_models_own_when_asked_for(
    teacher: Any, student: Any, speech_reading: Reading, utterances: Spoken, tmp_path: Path
) -> None:
    settings = weights(task_loss=1.0, sequence=2)
    loss = losses(teacher, speech_reading, utterances, settings, 0, tmp_path, QUIET)
    stored = dict(json.loads(line) for line in (tmp_path / "sequences.jsonl").read_text().split("\n") if line)
    assert stored
    one = next(each for each in utterances if each.id in stored)
    assert [stored[one.id]] == transcribed(teacher, speech_reading, [one], 2) != [one.text]
    plain = losses(teacher, speech_reading, utterances, weights(task_loss=1.0), 0, tmp_path, QUIET)
    assert loss(student, 0).item() != plain(student, 0).item()


# --- transcripts ----------------------------------------------------------------------------------------


def test_no_transcript_is_longer_than_the_recipe_says(
    teacher: Any, speech_reading: Reading, utterances: Spoken
) -> None:
    """Whatever the model's own settings say."""
    expected = transcribed(teacher, speech_reading, utterances)
    for setting in ({"max_new_tokens": 3}, {"max_length": 5}, {"num_beams": 3}):
        teacher.generation_config.update(**setting)
        assert transcribed(teacher, speech_reading, utterances) == expected
    short = transcribed(teacher, replace(speech_reading, max_tokens=8), utterances)
    assert short != expected
    assert all(text.startswith(part) for text, part in zip(expected, short, strict=True))


def test_a_batch_is_transcribed_as_each_alone(
    teacher: Any, speech_reading: Reading, utterances: Spoken
) -> None:
    alone = [transcribed(teacher, speech_reading, [each])[0] for each in utterances[:5]]
    assert transcribed(teacher, speech_reading, utterances[:5]) == alone


def test_a_cut_window_is_transcribed_too(
    student: Any, teacher: Any, speech_reading: Reading, utterances: Spoken
) -> None:
    shorten_window(student, 1.0)
    found = transcribed(student, speech_reading, utterances)
    assert len(found) == len(utterances)
    assert found != transcribed(teacher, speech_reading, utterances)


def test_the_language_is_the_recipes(many_reading: Reading, utterances: Spoken) -> None:
    model = load_model(many_reading.folder)
    german = transcribed(model, many_reading, utterances)
    assert german != transcribed(model, replace(many_reading, source_language="en"), utterances)
    assert not any("<|" in text for text in german)
