"""Texts that a package goes on with: token by token, in whole characters."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DataError
from edgelr.examples import Passage
from edgelr.metrics.text_generation import LENGTH
from edgelr.runtime.continue_text import (
    Writer,
    continue_tokens,
    half_of,
    loss_of,
    open_writer,
    pieces_of_text,
    prompt_of,
    timed_continuation,
)
from edgelr.tasks.text_generation_model import load_model

TEXT = "naïve: \N{GRINNING FACE} 日本語 x  y\n z"


@pytest.fixture(scope="module")
def writer(dense_writer: Package, cpu: Device) -> Writer:
    return open_writer(dense_writer, cpu)


def test_it_goes_on_as_generate_does(
    writer: Writer, passages: tuple[Passage, ...], make_causal: Callable[[str], Path]
) -> None:
    model = load_model(make_causal("llama"))
    for example in passages[:5]:
        prompt = prompt_of(writer, example.text[:40])
        wanted = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)  # type: ignore[operator]
        assert list(continue_tokens(writer, prompt, 12)) == wanted[0, len(prompt) :].tolist()


def test_it_ends_where_the_package_is_full(writer: Writer) -> None:
    prompt = prompt_of(writer, "the License is a file")
    found = list(continue_tokens(writer, prompt))
    assert len(prompt) + len(found) == 64 or found[-1] == 2
    assert list(continue_tokens(writer, prompt, 3)) == found[:3]


def test_a_text_that_fills_the_package_is_refused(writer: Writer) -> None:
    text = "word " * 100
    with pytest.raises(DataError, match=r"the text has \d+ tokens, and this package holds 64"):
        prompt_of(writer, text)
    assert len(prompt_of(writer, text, cut=True)) == 64


def test_nothing_is_gone_on_with_from_the_first_token(writer: Writer) -> None:
    assert prompt_of(writer, "") == [1]
    assert prompt_of(writer, "a\ud800") == prompt_of(writer, "a\ufffd")


def test_pieces_are_whole_characters_and_together_the_text(writer: Writer) -> None:
    ids = writer.codec.encode(TEXT)
    for split in range(1, len(ids)):
        pieces = list(pieces_of_text(writer.codec, ids[:split], ids[split:]))
        head = writer.codec.decode(ids[:split])
        if not head.endswith("\ufffd"):
            assert head + "".join(pieces) == TEXT
            assert not any("\ufffd" in piece for piece in pieces)


def test_half_a_character_at_the_end_is_shown_all_the_same(writer: Writer) -> None:
    ids = writer.codec.encode("x\N{GRINNING FACE}")
    assert "".join(pieces_of_text(writer.codec, ids[:1], ids[1:-1])).startswith("\ufffd")


def test_spaces_between_words_are_kept_where_a_tokenizer_joins_them_to_words(tmp_path: Path) -> None:
    """As SentencePiece does: alone, a word has no space before it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from edgelr.runtime.tokens import JsonCodec

    words = {"▁a": 0, "▁file": 1, "s": 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="s"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    codec = JsonCodec(tmp_path / "tokenizer.json", 16, {})
    assert list(pieces_of_text(codec, [0], [1, 2, 0])) == [" file", "s", " a"]


def test_the_first_half_leaves_room_for_what_is_measured() -> None:
    assert half_of([1], 64) == [1]
    assert half_of(list(range(10)), 64) == list(range(5))
    assert len(half_of(list(range(64)), 32)) == 32 - LENGTH


def test_a_loss_is_that_of_torch(writer: Writer, make_causal: Callable[[str], Path]) -> None:
    model, ids = load_model(make_causal("llama")), writer.codec.encode("the License is a file")
    with torch.inference_mode():
        mean = float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss)
    assert loss_of(writer, ids) == pytest.approx(mean * (len(ids) - 1), rel=1e-4)
    assert loss_of(writer, ids[:1]) == 0.0


def test_a_timed_continuation_does_not_end_early(writer: Writer) -> None:
    first, whole = timed_continuation(writer, [1, 5, 6], 100)
    assert 0 < first < whole
    assert np.isfinite(whole)


def test_the_tokenizer_is_that_of_transformers(
    writer: Writer, make_causal: Callable[[str], Path], odd_texts: list[str]
) -> None:
    theirs = AutoTokenizer.from_pretrained(make_causal("llama"))
    for text in (text for text in odd_texts if len(text) < 1000):
        assert writer.codec.encode(text) == theirs(text)["input_ids"], repr(text)
