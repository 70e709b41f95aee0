"""The recipes for translation models of the hub, on tiny models of the same families in the same files.

All that a recipe says is kept but its model, its data, and how long things take: its globs have to match
layers of that family, its languages have to be those of the tokenizer, its schemes have to fit the graphs.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from ruamel.yaml import YAML

from edgelr.device.schema import Device
from edgelr.pipeline import build
from edgelr.runtime.package import open_package
from edgelr.runtime.translate import open_translator, translate

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).parents[2] / "recipes"
SHAPE = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2}
SHAPE |= {f"{half}_attention_heads": 2 for half in ("encoder", "decoder")}
SHAPE |= {f"{half}_ffn_dim": 64 for half in ("encoder", "decoder")}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, text_lines: list[str]) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    lines = list(dict.fromkeys(line[:24].strip() for line in text_lines))[:80]
    path.write_text("".join(f"{line}\t{line.swapcase()[::-1]}\n" for line in lines), encoding="utf-8")
    return path


def saved(tokenizer: Any, model: Any, folder: Path) -> Path:
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def marian(marian_tokenizer: Path, home: Path) -> Path:
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    tokens = len(json.loads((marian_tokenizer / "vocab.json").read_text(encoding="utf-8")))
    ends = {"pad_token_id": tokens - 1, "decoder_start_token_id": tokens - 1, "eos_token_id": 0}
    torch.manual_seed(0)
    model = MarianMTModel(
        MarianConfig(vocab_size=tokens, **SHAPE, **ends, max_position_embeddings=64, init_std=0.4)
    )
    model.generation_config.update(bad_words_ids=[[tokens - 1]], num_beams=4, forced_eos_token_id=0)
    return saved(MarianTokenizer.from_pretrained(marian_tokenizer), model, home / "marian")


def nllb(lines: list[str], home: Path) -> Path:
    from tokenizers import SentencePieceBPETokenizer
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    bpe = SentencePieceBPETokenizer(add_prefix_space=True)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    bpe.train_from_iterator(lines, vocab_size=300, show_progress=False, special_tokens=special)
    trained = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) for merge in trained["merges"]]
    tokenizer = NllbTokenizer(vocab=trained["vocab"], merges=merges, src_lang="eng_Latn")
    config = M2M100Config(vocab_size=len(tokenizer), **SHAPE, max_position_embeddings=64, init_std=0.4)
    torch.manual_seed(0)
    model = M2M100ForConditionalGeneration(config)
    with torch.no_grad():  # a head that is the embedding lets every token follow itself, without other signs
        model.model.decoder.layer_norm.weight.copy_(torch.randn(32))
    return saved(tokenizer, model, home / "nllb")


def t5(write_sentence_pieces: Callable[..., list[str]], lines: list[str], home: Path) -> Path:
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    write_sentence_pieces(home / "unigram.model", lines)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(home / "unigram.model"))
    known = [
        (pieces.id_to_piece(place), pieces.get_score(place)) for place in range(3, pieces.get_piece_size())
    ]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    tokenizer = T5Tokenizer(vocab=[*special, *known], extra_ids=5)
    shape = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    config = T5Config(vocab_size=len(tokenizer), **shape, decoder_start_token_id=0, initializer_factor=3.0)
    torch.manual_seed(0)
    return saved(tokenizer, T5ForConditionalGeneration(config), home / "t5")


@pytest.fixture
def folder(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    text_lines: list[str],
    marian_tokenizer: Path,
    write_sentence_pieces: Callable[..., list[str]],
) -> Path:
    match request.param:
        case "marian":
            return marian(marian_tokenizer, tmp_path)
        case "nllb":
            return nllb(text_lines, tmp_path)
        case _:
            return t5(write_sentence_pieces, text_lines, tmp_path)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("opus-mt-en-de", "marian"), ("nllb-200-distilled-600m", "nllb"), ("t5-small", "t5")],
    indirect=["folder"],
)
def test_a_recipe_of_the_hub_goes_through_every_stage(
    name: str, folder: Path, pairs: Path, tmp_path: Path, cpu: Device
) -> None:
    yaml = YAML()
    recipe = yaml.load(RECIPES / f"{name}.yaml")
    recipe["model"] = {"path": str(folder)}
    recipe["task"] |= {
        "max_tokens": 48,
        "data": {"source": "file", "path": str(pairs), "train": 40, "validation": 8, "test": 10},
    }
    recipe["compress"] |= {"rank_multiple": 4, "calibration": {"examples": 16, "sensitivity_examples": 4}}
    recipe["finetune"] |= {"steps": 2, "batch": 4, "precision": "fp32"}
    recipe["quantize"]["min_cosine"] = 0.1  # random weights forgive nothing
    recipe["validate"] = {"devices": ["cpu-1t"], "baselines": ["dense-fp32"], "tokens": [8], "seconds": 0.5}
    yaml.dump(recipe, tmp_path / f"{name}.yaml")
    report = build(tmp_path / f"{name}.yaml", tmp_path / "out")
    agreement = {
        row["variant"]: row["value"] for row in report.document["accuracy"] if row["metric"] == "agreement"
    }
    assert agreement["dense-fp32"] == 1.0, "what transformers' generate() says, from texts to texts"
    assert report.package is not None
    package = open_package(report.package)
    schemes = {row["scheme"] for row in report.document["quantization"]["layers"]}
    assert {"weight-int4", "int8-dynamic"} <= schemes
    texts = ["a file", "the works that are derived from it", "no warranty of any kind", "copy, and modify"]
    assert len(set(translate(open_translator(package, cpu), texts, beams=1))) > 1, "or little was compared"
