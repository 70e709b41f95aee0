"""The files of a speech package besides its graphs: the tokenizer, how to search, the sounds of its test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.examples import Utterance
from edgelr.runtime.generation import generation_of, write_generation
from edgelr.runtime.tokens import CONFIG, TOKENIZER
from edgelr.tasks.speech_folder import tokenizer_of
from edgelr.tasks.speech_model import prompt_of
from edgelr.tasks.task import Reading

# Of a transformers configuration: what Whisper's own generate() does with them is said by the prompt.
_WHISPER_ONLY = ("forced_decoder_ids", "language", "task")


def write_speech_files(
    folder: Path, model: nn.Module, reading: Reading, examples: Sequence[Utterance]
) -> None:
    """Write the tokenizer, ``generation.json`` and the sounds of the examples.

    Args:
        folder: The package to be.
        model: An encoder-decoder of speech of transformers.
        reading: How texts become tokens.
        examples: Those that travel.

    Raises:
        UnsupportedModelError: The runtime cannot read such a tokenizer, or search as the settings say.
    """
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer_of(reading).save_pretrained(scratch)
        if not (Path(scratch) / TOKENIZER).is_file():
            raise UnsupportedModelError(
                f"{reading.folder}: the runtime cannot read its tokenizer", f"a {TOKENIZER} is needed"
            )
        for name in (TOKENIZER, CONFIG):
            shutil.copyfile(Path(scratch) / name, folder / name)
    write_generation(folder, generation_of(generation_config(model, reading)))
    copy_sounds(folder, reading, examples)


def copy_sounds(folder: Path, reading: Reading, examples: Sequence[Utterance]) -> None:
    """Copy the sounds of examples into a package.

    Args:
        folder: The package to be.
        reading: Where the sounds are.
        examples: Those that travel.
    """
    assert reading.sounds is not None, "the task reads sounds"
    for example in examples:
        target = folder / example.audio
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(reading.sounds / example.audio, target)


def generation_config(model: nn.Module, reading: Reading) -> dict[str, Any]:
    """How a package searches: greedily, as it is validated, and otherwise as the model's own settings say.

    Args:
        model: An encoder-decoder of speech of transformers.
        reading: Longest transcript, in tokens, and the language.
    """
    own: dict[str, Any] = model.generation_config.to_dict()  # type: ignore[union-attr, operator]
    config = {name: value for name, value in own.items() if name not in _WHISPER_ONLY}
    config |= {"num_beams": 1, "do_sample": False, "max_length": reading.max_tokens}
    config.pop("max_new_tokens", None)
    prompt = prompt_of(model, reading)
    plain = own.get("no_timestamps_token_id")
    # As transformers has it: the token before <|notimestamps|> says that nobody speaks.
    silent = {} if plain is None else {"no_speech_token_id": plain - 1}
    return {**config, "prompt_ids": prompt, **silent}
