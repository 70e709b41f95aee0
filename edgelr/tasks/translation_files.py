"""The files of a translation package besides its graphs: the tokenizer's, and how to search."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.runtime.generation import generation_of, write_generation
from edgelr.tasks.task import Reading
from edgelr.tasks.translation_model import language_token, tokenizer_of

# What transformers saves of a tokenizer, and the runtime reads: one of the first two kinds.
_KINDS = (
    ("tokenizer.json",),
    ("source.spm", "target.spm", "vocab.json"),
    ("sentencepiece.bpe.model", "vocab.json"),
)
_CONFIG = "tokenizer_config.json"


def write_text_files(folder: Path, model: nn.Module, reading: Reading) -> None:
    """Write the tokenizer and ``generation.json``.

    Args:
        folder: The package to be.
        model: An encoder-decoder of transformers.
        reading: How texts become tokens.

    Raises:
        UnsupportedModelError: The runtime cannot read such a tokenizer, or search as the settings say.
    """
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer_of(reading).save_pretrained(scratch)
        saved = {path.name: path for path in Path(scratch).iterdir()}
        kind = next((files for files in _KINDS if saved.keys() >= set(files)), None)
        if kind is None:
            raise UnsupportedModelError(
                f"{reading.folder}: the runtime cannot read a tokenizer of {', '.join(sorted(saved))}",
                "a tokenizer.json, or the SentencePiece files of Marian or M2M100, are needed",
            )
        for name in (*kind, _CONFIG):
            shutil.copyfile(saved[name], folder / name)
    write_generation(folder, generation_of(generation_config(model, reading)))


def generation_config(model: nn.Module, reading: Reading) -> dict[str, Any]:
    """How a package searches: greedily, as it is validated, and otherwise as the model's own settings say.

    Args:
        model: An encoder-decoder of transformers.
        reading: Longest text, and the language to translate to.
    """
    own: dict[str, Any] = model.generation_config.to_dict()  # type: ignore[union-attr, operator]
    config = {**own, "num_beams": 1, "do_sample": False, "max_length": reading.max_tokens}
    config.pop("max_new_tokens", None)
    if reading.target_language is not None:
        config["forced_bos_token_id"] = language_token(reading)
    return config
