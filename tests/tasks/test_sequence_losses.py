"""What an encoder-decoder is tuned on, shown on translations."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgelr.examples import Translation
from edgelr.progress import Progress
from edgelr.recipe.finetune import Distill, Finetune
from edgelr.tasks import translation_losses
from edgelr.tasks.sequence_losses import TARGETS, Sequences, cross_entropy, distillation_loss, outputs_of
from edgelr.tasks.sequence_losses import step_loss as step_loss_of
from edgelr.tasks.task import Batch, Reading
from edgelr.tasks.translation_losses import generated, losses, sequences_of
from edgelr.tasks.translation_model import collate, load_model, run

Pairs = tuple[Translation, ...]
QUIET = Progress(quiet=True)


def eager(folder: Path) -> nn.Module:
    model = load_model(folder)
    model.set_attn_implementation("eager")  # type: ignore[operator] # no other says what it looks at
    return model


@pytest.fixture(scope="module")
def teacher(tiny_translator: Path) -> nn.Module:
    return eager(tiny_translator).requires_grad_(False)


@pytest.fixture
def student(tiny_translator: Path) -> nn.Module:
    return eager(tiny_translator)


@pytest.fixture(scope="module")
def batch(translator_reading: Reading, translations: Pairs) -> Batch:
    return collate(translator_reading, translations[:5])


def step_loss(student: nn.Module, teacher: nn.Module, batch: Batch, settings: Finetune) -> torch.Tensor:
    sequences = Sequences(target="", size=len, collate=dict, run=run, generated=list, own=cross_entropy)  # type: ignore[arg-type]
    return step_loss_of(student, teacher, sequences, batch, settings)


def disturbed(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def weights(task_loss: float = 0.0, **values: float) -> Finetune:
    distill = Distill.model_validate({"logits": 0.0, "hidden": 0.0, "attention": 0.0, **values})
    return Finetune(steps=10, batch=4, task_loss=task_loss, distill=distill)  # type: ignore[call-arg]


# --- step_loss --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["logits", "hidden", "attention"])
def test_the_loss_is_zero_for_the_teacher_itself_and_not_for_another(
    kind: str, teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    settings = weights(**{kind: 1.0})
    assert step_loss(student, teacher, batch, settings).item() == 0
    assert step_loss(disturbed(student), teacher, batch, settings).item() > 1e-4


def blind(name: str) -> bool:
    """What no attention to the source depends on: what comes after the last one, and what it would carry."""
    return name.startswith("model.decoder.layers.1.") and any(
        part in name for part in ("encoder_attn.v", "encoder_attn.out", "encoder_attn_layer", "fc", "final")
    )


@pytest.mark.parametrize("kind", ["logits", "hidden", "attention", "task"])
def test_each_loss_alone_reaches_every_layer(
    kind: str, teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    settings = weights(task_loss=1.0) if kind == "task" else weights(**{kind: 1.0})
    step_loss(disturbed(student), teacher, batch, settings).backward()
    layers = {name: parameter for name, parameter in student.named_parameters() if ".layers." in name}
    assert len(layers) == 2 * (16 + 26)
    # The bias of a key adds the same to every score of a row.
    silent = {
        name for name, parameter in layers.items() if parameter.grad is None or not parameter.grad.any()
    }
    expected = {name for name in layers if kind == "attention" and blind(name)}
    assert {name for name in silent ^ expected if not name.endswith("k_proj.bias")} == set()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_losses_add_up_with_their_weights(teacher: nn.Module, student: nn.Module, batch: Batch) -> None:
    disturbed(student)
    parts = {
        kind: step_loss(student, teacher, batch, weights(**{kind: 1.0})).item()
        for kind in ("logits", "hidden", "attention")
    }
    task = step_loss(student, teacher, batch, weights(task_loss=1.0)).item()
    both = weights(task_loss=0.25, logits=2.0, hidden=0.5, attention=3.0)
    expected = 0.25 * task + 2 * parts["logits"] + 0.5 * parts["hidden"] + 3 * parts["attention"]
    assert step_loss(student, teacher, batch, both).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["logits", "hidden", "attention", "task"])
def test_padding_changes_no_loss(kind: str, teacher: nn.Module, student: nn.Module, batch: Batch) -> None:
    settings = weights(task_loss=1.0) if kind == "task" else weights(**{kind: 1.0})
    values = {"input_ids": 86, "decoder_input_ids": 86, "labels": -100}
    wider = {
        name: nn.functional.pad(tensor, (0, 9), value=values.get(name, 0)) for name, tensor in batch.items()
    }
    disturbed(student)
    one, other = (step_loss(student, teacher, each, settings).item() for each in (batch, wider))
    assert one == pytest.approx(other, rel=1e-4), "sums in another order"


# --- its parts --------------------------------------------------------------------------------------


def test_a_temperature_divides_both_logits_and_keeps_the_size_of_gradients(
    teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    with torch.no_grad():
        own, theirs = run(disturbed(student), batch), run(teacher, batch)
        found = distillation_loss(own, theirs, batch, weights(logits=1.0, temperature=4.0).distill)
    counted = batch[TARGETS] == 1
    expected = nn.functional.kl_div(
        (own.result[counted] / 4).log_softmax(-1),
        (theirs.result[counted] / 4).log_softmax(-1),
        reduction="batchmean",
        log_target=True,
    )
    torch.testing.assert_close(found, 16 * expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_of_the_tokens_that_count(
    teacher: nn.Module, batch: Batch, smoothing: float
) -> None:
    with torch.no_grad():
        logits = run(teacher, batch).result
    counted = batch[TARGETS] == 1
    expected = nn.functional.cross_entropy(
        logits[counted], batch["labels"][counted], label_smoothing=smoothing
    )
    torch.testing.assert_close(cross_entropy(logits, batch, smoothing), expected)
    scores = logits[counted].log_softmax(-1)
    right = scores.gather(1, batch["labels"][counted][:, None])[:, 0]
    by_hand = -((1 - smoothing) * right + smoothing * scores.mean(-1)).mean()
    torch.testing.assert_close(expected, by_hand)


# --- losses -----------------------------------------------------------------------------------------


def test_a_step_sees_the_same_pairs_whenever_it_is_asked_for(
    tiny_translator: Path, translator_reading: Reading, translations: Pairs, tmp_path: Path
) -> None:
    teacher, student = eager(tiny_translator), disturbed(eager(tiny_translator))

    def loss() -> Any:
        return losses(teacher, translator_reading, translations, weights(logits=1.0), 3, tmp_path, QUIET)

    first = [loss()(student, number).item() for number in range(3)]
    assert len(set(first)) == 3
    again = loss()
    assert [again(student, number).item() for number in (2, 0, 1)] == [first[2], first[0], first[1]]
    assert list(tmp_path.iterdir()) == [], "nothing is translated unless it is asked for"


def test_attention_is_compared_whatever_implementation_a_model_came_with(
    tiny_translator: Path, translator_reading: Reading, translations: Pairs, tmp_path: Path
) -> None:
    teacher, student = load_model(tiny_translator), disturbed(load_model(tiny_translator))
    settings = weights(attention=1.0)
    loss = losses(teacher, translator_reading, translations, settings, 0, tmp_path, QUIET)
    assert loss(student, 0).item() > 0


# --- the dense model's own translations -------------------------------------------------------------


def sequence(beams: int) -> Finetune:
    settings = weights(task_loss=1.0, sequence=beams)
    return settings.model_copy(update={"steps": 3})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of what is translated, call by call."""
    found: list[list[str]] = []
    real = generated

    def noted(model: Any, reading: Any, examples: Any, beams: int = 1) -> list[str]:
        found.append([example.id for example in examples])
        return real(model, reading, examples, beams)

    monkeypatch.setattr(translation_losses, "generated", noted)
    return found


def test_references_are_the_dense_models_own(
    teacher: nn.Module,
    student: nn.Module,
    translator_reading: Reading,
    translations: Pairs,
    tmp_path: Path,
    calls: list[list[str]],
) -> None:
    loss = losses(teacher, translator_reading, translations[:20], sequence(2), 0, tmp_path, QUIET)
    used = [each for call in calls for each in call]
    assert len(used) == len(set(used)) == 12, "of 20 pairs, those that three steps of four see"
    stored = dict(json.loads(line) for line in (tmp_path / "sequences.jsonl").read_text().split("\n") if line)
    assert set(stored) == set(used)
    one = next(example for example in translations if example.id == used[0])
    assert stored[one.id] == generated(teacher, translator_reading, [one], 2)[0] != one.target
    plain = losses(teacher, translator_reading, translations[:20], sequence(0), 0, tmp_path, QUIET)
    assert loss(student, 0).item() != plain(student, 0).item()


def translated(model: nn.Module, reading: Reading, pairs: Pairs, scratch: Path) -> list[str]:
    return outputs_of(model, sequences_of(reading), pairs, 1, scratch, QUIET)


def test_what_is_translated_already_is_used_again(
    teacher: nn.Module,
    translator_reading: Reading,
    translations: Pairs,
    tmp_path: Path,
    calls: list[list[str]],
) -> None:
    first = translated(teacher, translator_reading, translations[:4], tmp_path)
    both = translated(teacher, translator_reading, translations[:6], tmp_path)
    assert both[:4] == first
    assert [sorted(call) for call in calls] == [
        ["pair-0", "pair-1", "pair-2", "pair-3"],
        ["pair-4", "pair-5"],
    ]
    assert translated(teacher, translator_reading, translations[:6][::-1], tmp_path) == both[::-1]
    assert len(calls) == 2


@pytest.mark.parametrize(
    "said", ["plain", "in [brackets] and more", "line\u2028break", "häuser 日本語", "\x85\x0b"]
)
@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_last_line_that_was_cut_is_ignored(
    said: str,
    cut: int,
    teacher: nn.Module,
    translator_reading: Reading,
    translations: Pairs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fake(_: object, __: object, examples: Pairs, ___: int = 1) -> list[str]:
        return [f"{example.id} {said}" for example in examples]

    monkeypatch.setattr(translation_losses, "generated", fake)
    expected = translated(teacher, translator_reading, translations[:3], tmp_path)
    path = tmp_path / "sequences.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert translated(teacher, translator_reading, translations[:3], tmp_path) == expected
    assert translated(teacher, translator_reading, translations[:3], tmp_path) == expected
