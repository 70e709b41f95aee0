"""Causal language models as they are loaded, read and continued in torch."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgelr.errors import UnsupportedModelError
from edgelr.examples import Passage
from edgelr.metrics.text_generation import NOTHING
from edgelr.tasks.task import Reading
from edgelr.tasks.text_generation_model import (
    collate,
    example_batches,
    load_model,
    readings_of,
    run,
    sequences_of,
    token_ids,
)

Passages = tuple[Passage, ...]


@pytest.fixture(scope="module")
def reading(make_causal: Callable[[str], Path]) -> Reading:
    return Reading(folder=make_causal("llama"), max_tokens=64)


@pytest.fixture(scope="module")
def model(reading: Reading) -> torch.nn.Module:
    return load_model(reading.folder)


def test_an_encoder_decoder_is_refused(make_causal: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(make_causal("llama"), tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text()) | {"is_encoder_decoder": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match="does not go on with a text") as caught:
        load_model(folder)
    assert caught.value.exit_code == 4


def test_a_batch_is_padded_behind_and_its_labels_are_the_next_tokens(
    reading: Reading, passages: Passages
) -> None:
    batch = collate(reading, passages[:3])
    rows = [token_ids(reading, each) for each in passages[:3]]
    assert batch["attention_mask"].sum(1).tolist() == [len(row) for row in rows]
    for row, ids, labels in zip(rows, batch["input_ids"], batch["labels"], strict=True):
        assert ids[: len(row)].tolist() == row
        assert labels[: len(row) - 1].tolist() == row[1:]
        assert set(labels[len(row) - 1 :].tolist()) == {-100}


def test_a_long_text_is_cut(reading: Reading, passages: Passages) -> None:
    assert len(token_ids(reading, passages[3])) == 64


def test_padding_changes_no_score_and_has_none(
    reading: Reading, model: torch.nn.Module, passages: Passages
) -> None:
    few = sorted(passages[:4], key=lambda each: len(token_ids(reading, each)))
    with torch.inference_mode():
        (whole,) = (run(model, batch).result for batch in example_batches(reading, few, 4))
        for one in few:
            alone = run(model, collate(reading, [one])).result[0]
            row = whole[sorted(few, key=lambda each: (len(each.text), each.id)).index(one)]
            torch.testing.assert_close(row[: len(alone)], alone, atol=1e-4, rtol=1e-4)
            assert not row[len(alone) :].any()


def test_losses_are_those_of_transformers(
    reading: Reading, model: torch.nn.Module, passages: Passages
) -> None:
    found = readings_of(model, reading, passages[:4])
    for number, example in enumerate(passages[:4]):
        ids = torch.tensor([token_ids(reading, example)])
        with torch.inference_mode():
            mean = float(model(input_ids=ids, labels=ids).loss)
        assert found.tokens[number] == ids.shape[1] - 1
        assert found.losses[number] / found.tokens[number] == pytest.approx(mean, rel=1e-4)


def test_a_continuation_ends_with_the_token_that_ends_it(
    reading: Reading, model: torch.nn.Module, passages: Passages
) -> None:
    whole = readings_of(model, reading, passages[:4]).continuations
    ending = int(whole[0, 2])
    before = model.generation_config.eos_token_id  # type: ignore[union-attr]
    try:
        model.generation_config.eos_token_id = ending  # type: ignore[union-attr]
        ended = readings_of(model, reading, passages[:4]).continuations[0]
    finally:
        model.generation_config.eos_token_id = before  # type: ignore[union-attr]
    stop = whole[0].tolist().index(ending) + 1
    assert ended[:stop].tolist() == whole[0, :stop].tolist()
    assert set(ended[stop:].tolist()) == {NOTHING}


def test_the_teacher_rewrites_second_halves(
    reading: Reading, model: torch.nn.Module, passages: Passages
) -> None:
    texts = sequences_of(reading).generated(model, passages[:2], 1)
    for text, example in zip(texts, passages[:2], strict=True):
        assert text != example.text
        assert text[:5] == example.text[:5]


def test_a_model_without_a_first_token_starts_with_the_last(
    make_causal: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(make_causal("llama"), tmp_path / "model"))
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text()) | {"bos_token_id": None, "eos_token_id": [2, 5]}
        (folder / name).write_text(json.dumps(settings))
    assert load_model(folder).generation_config.decoder_start_token_id == 2  # type: ignore[union-attr]
