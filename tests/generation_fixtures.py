"""Tiny causal language models of every family with random weights, saved by transformers with a tokenizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from once import MakeOnce

from edgelr.artifact_files import read_source, write_json
from edgelr.artifacts import SPLITS, Package
from edgelr.examples import Passage, write_examples
from edgelr.runtime.package import open_package

CAUSAL_TOKENS = 64
_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,  # at the usual 0.02 all tokens are nearly as likely
}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3}
# Family -> what its configuration has besides; windows are shorter than the texts.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**_SHAPE, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2", _SHAPE),
    "qwen3": ("Qwen3", {**_SHAPE, "head_dim": 16}),
    "gpt2": ("GPT2", _GPT2),
    "gemma": ("Gemma", {**_SHAPE, "head_dim": 8}),
    "gemma2": ("Gemma2", {**_SHAPE, "head_dim": 8, "sliding_window": 4}),
    "gemma3": ("Gemma3Text", {**_SHAPE, "head_dim": 8, "sliding_window": 4}),
    "phi": ("Phi", _SHAPE),
    "phi3": ("Phi3", _SHAPE),
    "mistral": ("Mistral", {**_SHAPE, "sliding_window": 4}),
}


@pytest.fixture(scope="session")
def make_causal(make_once: MakeOnce, text_lines: list[str]) -> Callable[[str], Path]:
    """``make_causal("llama")`` is the folder of a model of that family."""
    return lambda family: make_once(family, lambda folder: write_causal(folder, family, text_lines))


def write_causal(folder: Path, family: str, lines: list[str]) -> None:
    import torch
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    special = ["<pad>", "<s>", "</s>"]
    trained.train_from_iterator(lines, vocab_size=400, special_tokens=special, show_progress=False)
    tokens = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, **tokens).save_pretrained(
        folder
    )
    kind, shape = FAMILIES[family]
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{kind}Config")(vocab_size=trained.get_vocab_size(), **shape, **ids)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def passages(text_lines: list[str]) -> tuple[Passage, ...]:
    """24 lines of real text, some longer than a package holds, with characters of several bytes."""
    lines = [line for line in text_lines if len(line) > 20][:24]
    lines[3] = "naïve " + " ".join(lines)  # more than CAUSAL_TOKENS
    return tuple(
        Passage(id=f"line-{number:02}", group=f"group-{number}", text=line)
        for number, line in enumerate(lines)
    )


@pytest.fixture(scope="session")
def dense_writer(
    make_once: MakeOnce, make_causal: Callable[[str], Path], passages: tuple[Passage, ...]
) -> Package:
    """The tiny Llama as an fp32 package, not to be changed."""
    model = make_causal("llama")
    return open_package(
        make_once("dense-writer", lambda home: export_writer(model, passages, home)) / "package"
    )


def export_writer(model: Path, passages: tuple[Passage, ...], home: Path) -> None:
    """Run the stage on the folder of a model: the dense package, fp32."""
    from edgelr.export.stage import Label, export
    from edgelr.progress import Progress
    from edgelr.recipe.schema import Export
    from edgelr.recipe.tasks import Generate

    for split in SPLITS:
        write_examples(home / "source" / "data" / f"{split}.jsonl", passages)
    described = {"model_folder": str(model), "fingerprint": "0" * 64, "title": "tiny"}
    counts = dict.fromkeys(SPLITS, len(passages))
    write_json(home / "source" / "source.json", {**described, "license": None, "counts": counts})
    data = {"source": "file", "path": "none.txt"}
    task = Generate.model_validate({"type": "text-generation", "data": data, "max_tokens": CAUSAL_TOKENS})
    label = Label(name="tiny-writer", task=task, macs=1000)
    (home / "package").mkdir()
    source, progress = read_source(home / "source"), Progress(quiet=True)
    export(source, None, label, Export(), home / "package", progress)
