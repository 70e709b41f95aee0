"""Ids and texts against the tokenizers of transformers, with SentencePiece models trained on real text."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import M2M100Tokenizer, MarianTokenizer
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES

from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.runtime.sentence_pieces import _LANGUAGES, M2MCodec, MarianCodec
from edgelr.runtime.tokens import Codec, check_codec, open_codec

Write = Callable[..., list[str]]
LIMIT: dict[str, int | str] = {"max_tokens": 64}


def ids_to_decode(codec: Codec, tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Those of the texts, and random ones: what a bad model may give."""
    draw = random.Random(0)
    size = codec.sizes()[1]
    return [codec.encode(text) for text in texts] + [
        [draw.randrange(size) for _ in range(length)] for length in range(60)
    ]


def assert_same(codec: Codec, tokenizer: Any, texts: list[str]) -> None:
    for text in texts:
        assert codec.encode(text) == tokenizer(text)["input_ids"], repr(text[:80])
    for ids in ids_to_decode(codec, tokenizer, texts):
        assert codec.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True), ids


# --- Marian -----------------------------------------------------------------------------------------


def test_marian_is_as_in_transformers(marian_tokenizer: Path, odd_texts: list[str]) -> None:
    codec = open_codec(marian_tokenizer, LIMIT)
    assert isinstance(codec, MarianCodec)
    assert_same(codec, MarianTokenizer.from_pretrained(marian_tokenizer), odd_texts)


def test_marian_as_older_versions_saved_it(
    marian_tokenizer: Path, tmp_path: Path, odd_texts: list[str]
) -> None:
    """Without added tokens in its configuration, or without a configuration at all."""
    folder = shutil.copytree(marian_tokenizer, tmp_path / "old")
    for document in ('{"target_lang": "fr", "source_lang": "en"}', None):
        path = folder / "tokenizer_config.json"
        path.unlink() if document is None else path.write_text(document)
        tokenizer = MarianTokenizer.from_pretrained(folder)
        assert_same(open_codec(folder, LIMIT), tokenizer, odd_texts)


def test_marian_with_a_vocabulary_for_each_language(
    marian_tokenizer: Path, tmp_path: Path, odd_texts: list[str]
) -> None:
    folder = separate(marian_tokenizer, tmp_path)
    assert_same(open_codec(folder, LIMIT), MarianTokenizer.from_pretrained(folder), odd_texts)


def separate(marian_tokenizer: Path, tmp_path: Path) -> Path:
    """The same SentencePiece models with one vocabulary each."""
    import sentencepiece

    raw, folder = tmp_path / "raw", tmp_path / "separate"
    shutil.copytree(marian_tokenizer, raw)
    for model, file in (("source.spm", "vocab.json"), ("target.spm", "target_vocab.json")):
        processor = sentencepiece.SentencePieceProcessor(model_file=str(raw / model))
        pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
        tokens = dict.fromkeys(["</s>", "<unk>", *pieces, "<pad>"])
        (raw / file).write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    tokenizer = MarianTokenizer(
        *(str(raw / name) for name in ("source.spm", "target.spm", "vocab.json")),
        target_vocab_file=str(raw / "target_vocab.json"),
        separate_vocabs=True,
    )
    tokenizer.save_pretrained(folder)
    return folder


def test_exchanged_files_of_separate_vocabularies_are_found(marian_tokenizer: Path, tmp_path: Path) -> None:
    folder = separate(marian_tokenizer, tmp_path)
    check_codec(open_codec(folder, LIMIT), 1000)
    (folder / "source.spm").rename(folder / "s")
    (folder / "target.spm").rename(folder / "source.spm")
    (folder / "s").rename(folder / "target.spm")
    with pytest.raises(DamagedArtifactError, match=r"mixed up: most pieces of source\.spm are not in its"):
        check_codec(open_codec(folder, LIMIT), 1000)


def test_only_a_known_language_leads(marian_tokenizer: Path) -> None:
    codec = open_codec(marian_tokenizer, LIMIT)
    assert codec.lead(">>deu<< x") == ">>deu<<"
    assert codec.lead(">>xyz<< x") == codec.lead("x >>deu<<") == codec.lead("") == ""


# --- M2M100 -----------------------------------------------------------------------------------------


def test_m2m100_is_as_in_transformers(m2m_tokenizer: Path, odd_texts: list[str]) -> None:
    for settings, language in (({}, "en"), ({"source_language": "de"}, "de")):
        codec = open_codec(m2m_tokenizer, {**LIMIT, **settings})
        assert isinstance(codec, M2MCodec)
        tokenizer = M2M100Tokenizer.from_pretrained(m2m_tokenizer, src_lang=language)
        assert_same(codec, tokenizer, [*odd_texts, "from __en__ to __de__."])
    assert codec.sizes() == (len(tokenizer), len(tokenizer))


def test_the_languages_are_those_of_transformers() -> None:
    assert {name: codes.split() for name, codes in _LANGUAGES.items()} == FAIRSEQ_LANGUAGE_CODES


def test_languages_are_special_even_if_no_file_says_so(m2m_tokenizer: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(m2m_tokenizer, tmp_path / "bare")
    (folder / "tokenizer_config.json").unlink()
    codec = open_codec(folder, {**LIMIT, "source_language": "en"})
    whole = open_codec(m2m_tokenizer, LIMIT)
    ids = whole.encode("a file")
    assert codec.encode("a file") == ids
    assert codec.decode(ids) == whole.decode(ids) == "a file"


@pytest.mark.parametrize("language", ["xx", "", 5])
def test_an_unknown_source_language_is_named(m2m_tokenizer: Path, language: str | int) -> None:
    with pytest.raises(DamagedArtifactError, match=rf"source_language is {language!r}.*: af, am"):
        open_codec(m2m_tokenizer, {**LIMIT, "source_language": language})


def test_pieces_of_another_vocabulary_are_found(
    m2m_tokenizer: Path, tmp_path: Path, write_sentence_pieces: Write, text_lines: list[str]
) -> None:
    folder = shutil.copytree(m2m_tokenizer, tmp_path / "other")
    write_sentence_pieces(folder / "sentencepiece.bpe.model", [line.swapcase()[::-1] for line in text_lines])
    with pytest.raises(DamagedArtifactError, match=r"most pieces of sentencepiece\.bpe\.model are not in"):
        check_codec(open_codec(folder, LIMIT), 10_000)


# --- damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("source.spm", b"", r"source\.spm is not a SentencePiece model"),
        ("target.spm", b"junk", r"target\.spm is not a SentencePiece model"),
        ("target.spm", None, r"target\.spm is not a SentencePiece model"),
        ("vocab.json", b"{}", r"vocab\.json is not token -> id"),
        ("vocab.json", b'{"a": "b"}', r"vocab\.json is not token -> id"),
        ("vocab.json", b"{", r"vocab\.json cannot be read"),
        ("vocab.json", b'{"<unk>": 0}', r"vocab\.json has no eos_token '</s>'"),
        ("tokenizer_config.json", b"[]", r"tokenizer_config\.json is not an object"),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {"x": 1}}', "added_tokens_decoder is malformed"),
    ],
)
def test_a_damaged_file_is_named(
    marian_tokenizer: Path, tmp_path: Path, file: str, content: bytes | None, words: str
) -> None:
    folder = shutil.copytree(marian_tokenizer, tmp_path / "damaged")
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(DamagedArtifactError, match=words):
        open_codec(folder, LIMIT)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sp_model_kwargs": {"enable_sampling": True}}, "sp_model_kwargs"),
        (
            {"added_tokens_decoder": {"0": {"content": "</s>", "special": True, "lstrip": True}}},
            "'</s>' takes the spaces beside it",
        ),
    ],
)
def test_what_only_transformers_can_do_is_said(
    marian_tokenizer: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    folder = shutil.copytree(marian_tokenizer, tmp_path / "special")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UnsupportedModelError, match=words):
        open_codec(folder, LIMIT)
