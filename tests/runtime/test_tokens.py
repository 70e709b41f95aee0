"""``tokenizer.json`` against transformers, and which tokenizer a folder has."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import SentencePieceBPETokenizer
from transformers import AutoTokenizer, MBartTokenizer, NllbTokenizer, T5Tokenizer

from edgelr.errors import DamagedArtifactError
from edgelr.runtime.tokens import JsonCodec, check_codec, open_codec

LIMIT: dict[str, int | str] = {"max_tokens": 64}


@pytest.fixture(scope="session")
def saved(
    tmp_path_factory: pytest.TempPathFactory,
    text_lines: list[str],
    write_sentence_pieces: Callable[..., list[str]],
) -> dict[str, Path]:
    """Tokenizers of T5, mBART and NLLB with their own post-processors, saved by transformers."""
    home = tmp_path_factory.mktemp("saved")
    write_sentence_pieces(home / "unigram.model", text_lines)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(home / "unigram.model"))
    pieces = [
        (processor.id_to_piece(index), processor.get_score(index))
        for index in range(3, processor.get_piece_size())
    ]
    bpe = SentencePieceBPETokenizer(add_prefix_space=True)
    bpe.train_from_iterator(
        text_lines, vocab_size=300, show_progress=False, special_tokens=["<s>", "<pad>", "</s>", "<unk>"]
    )
    model = json.loads(bpe.to_str())["model"]
    first = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    tokenizers: dict[str, Any] = {
        "t5": T5Tokenizer(
            vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces],
            extra_ids=5,
            model_max_length=20,
            clean_up_tokenization_spaces=True,
        ),
        "mbart": MBartTokenizer(vocab=[*first, *pieces], src_lang="de_DE", tgt_lang="en_XX"),
        "nllb": NllbTokenizer(
            vocab=model["vocab"],
            merges=[tuple(merge) for merge in model["merges"]],
            src_lang="fra_Latn",
            clean_up_tokenization_spaces=True,
        ),
    }
    for name, tokenizer in tokenizers.items():
        tokenizer.save_pretrained(home / name)
    return {name: home / name for name in tokenizers}


@pytest.mark.parametrize("name", ["t5", "mbart", "nllb"])
def test_a_json_tokenizer_is_as_in_transformers(
    saved: dict[str, Path], name: str, odd_texts: list[str]
) -> None:
    codec = open_codec(saved[name], LIMIT)
    assert isinstance(codec, JsonCodec)
    languages = {"mbart": {"src_lang": "de_DE"}, "nllb": {"src_lang": "fra_Latn"}}.get(name, {})
    tokenizer = AutoTokenizer.from_pretrained(saved[name], **languages)
    for text in odd_texts:
        assert codec.encode(text) == tokenizer(text)["input_ids"], repr(text[:80])
    draw = random.Random(0)
    size = codec.sizes()[0]
    assert size == len(tokenizer)
    ids = [codec.encode(text) for text in odd_texts]
    ids += [[draw.randrange(size) for _ in range(length)] for length in range(60)]
    for row in ids:
        assert codec.decode(row) == tokenizer.decode(row, skip_special_tokens=True), row


def test_the_source_language_is_in_the_json(saved: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(saved["nllb"])
    assert open_codec(saved["nllb"], LIMIT).encode("a file")[0] == tokenizer.convert_tokens_to_ids("fra_Latn")


def test_spaces_are_cleaned_where_the_configuration_says_so(saved: dict[str, Path], tmp_path: Path) -> None:
    ids = open_codec(saved["t5"], LIMIT).encode("yes , I do n't .")
    assert open_codec(saved["t5"], LIMIT).decode(ids) == "yes, I don't."
    folder = shutil.copytree(saved["t5"], tmp_path / "t5")
    (folder / "tokenizer_config.json").unlink()
    assert open_codec(folder, LIMIT).decode(ids) == "yes , I do n't ."


def test_a_text_is_not_cut_off_but_cut_to_the_limit_on_request(saved: dict[str, Path]) -> None:
    codec = open_codec(saved["t5"], {"max_tokens": 8})
    ids = codec.encode("file " * 100)
    assert len(ids) > 100
    assert not codec.fits("file " * 100)
    assert codec.cut(ids) == [*ids[:7], ids[-1]]
    assert codec.fits("file")
    assert codec.cut(codec.encode("file")) == codec.encode("file")


def test_a_tokenizer_with_tokens_the_model_lacks_is_found(saved: dict[str, Path]) -> None:
    codec = open_codec(saved["mbart"], LIMIT)
    size = codec.sizes()[0]
    check_codec(codec, size)
    with pytest.raises(DamagedArtifactError, match=f"up to {size - 1}, and the model's are below {size - 1}"):
        check_codec(codec, size - 1)
    check_codec(codec, size, source_vocabulary=size)
    with pytest.raises(DamagedArtifactError, match="it has source tokens up to"):
        check_codec(codec, size, source_vocabulary=10)


def test_a_folder_without_a_tokenizer_says_what_is_looked_for(tmp_path: Path) -> None:
    words = r"neither tokenizer\.json nor source\.spm nor sentencepiece\.bpe\.model"
    with pytest.raises(DamagedArtifactError, match=words):
        open_codec(tmp_path, LIMIT)


@pytest.mark.parametrize("limit", [0, "many", None])
def test_a_senseless_limit_is_named(tmp_path: Path, limit: Any) -> None:
    with pytest.raises(DamagedArtifactError, match=r"settings\.max_tokens is"):
        open_codec(tmp_path, {"max_tokens": limit} if limit is not None else {})


def test_what_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DamagedArtifactError, match=r"tokenizer\.json is not a usable tokenizer"):
        open_codec(tmp_path, LIMIT)
