"""A Hugging Face text encoder's folder: its transformer, pooling and tokenizer, read strictly."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import nn

from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.tasks.pretrained import load_pretrained, read_json, reason_of

Pooling = Literal["mean", "cls", "max"]

# Parts of a checkpoint that an encoder does not use: heads of its pre-training, and buffers of old releases.
_UNUSED = (
    "pooler.",
    "cls.",
    "lm_head.",
    "discriminator_predictions.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "position_ids",
    "embeddings.position_ids",
)
_POOLING: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


class PoolingLayout(NamedTuple):
    """How token vectors become one, and whether the result has unit length."""

    pooling: Pooling
    normalize: bool


def load_transformer(folder: Path) -> nn.Module:
    """Load the transformer in fp32: every tensor there, of its shape, and finite.

    Args:
        folder: Has ``config.json`` and weights.

    Raises:
        MissingRequirementError: transformers is not installed.
        UnsupportedModelError: The checkpoint is damaged, does not fit its configuration, or is of an unknown
            kind; the folder is named.
    """
    model: Any = load_pretrained(folder, "AutoModel", "an encoder", _UNUSED)
    if "input_ids" not in inspect.signature(model.forward).parameters or model.config.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{folder} is a {type(model).__name__}, which is not an encoder of texts",
            "give a model such as BERT, RoBERTa or DistilBERT",
        )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # pools for pre-training; never part of a sentence embedding
    assert isinstance(model, nn.Module)
    return model


def read_pooling(folder: Path) -> PoolingLayout:
    """Read the sentence-transformers layout, when the folder has it; else mean pooling and unit length.

    Args:
        folder: May have ``modules.json``.

    Raises:
        UnsupportedModelError: The layout is malformed, or has modules or a pooling that cannot be exported.
    """
    listing = folder / "modules.json"
    if not listing.is_file():
        return PoolingLayout("mean", normalize=True)
    try:
        kinds = {module["type"].rsplit(".", 1)[-1]: module["path"] for module in read_json(listing)}
        place = folder / kinds.get("Pooling", "") / "config.json"
    except (LookupError, TypeError, AttributeError) as error:
        raise UnsupportedModelError(
            f"{listing} is not a list of modules: {type(error).__name__}: {error}", "get the model again"
        ) from error
    if unknown := sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"}):
        raise UnsupportedModelError(
            f"{listing}: the module kind {', '.join(unknown)} is not supported",
            "edgelr knows Transformer, Pooling and Normalize; use a custom task for a model with others",
        )
    normalize = "Normalize" in kinds
    return PoolingLayout(_pooling(place) if "Pooling" in kinds else "mean", normalize=normalize)


def _pooling(place: Path) -> Pooling:
    config = read_json(place)
    if not isinstance(config, dict):
        raise UnsupportedModelError(f"{place} is not an object", "get the model again")
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if config.get("pooling_mode") in _POOLING.values():  # how newer releases say it
        return config["pooling_mode"]  # type: ignore[no-any-return]
    if len(chosen) != 1 or chosen[0] not in _POOLING:
        raise UnsupportedModelError(
            f"{place}: pooling {' and '.join(chosen) or config.get('pooling_mode', 'none')} is not supported",
            f"supported is one of {', '.join(_POOLING)}",
        )
    return _POOLING[chosen[0]]


def read_tokenizer(folder: Path) -> str:
    """The folder's fast tokenizer as JSON.

    Args:
        folder: Has ``tokenizer.json``, or files that one can be made of.

    Raises:
        UnsupportedModelError: There is no tokenizer, or none that can be written so.
    """
    from edgelr.runtime.text import parse_tokenizer

    ready = folder / "tokenizer.json"
    try:
        document = ready.read_text(encoding="utf-8") if ready.is_file() else _converted_tokenizer(folder)
        tokenizer = parse_tokenizer(document, 8, origin=str(ready))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ImportError) as error:
        raise UnsupportedModelError(
            f"{folder} has no usable tokenizer: {reason_of(error)}", "add its tokenizer.json"
        ) from error
    except DamagedArtifactError as error:
        raise UnsupportedModelError(error.found, "get the model's tokenizer.json again") from error
    # For a folder without a vocabulary transformers makes one of special tokens: every word is unknown.
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    if not set(tokenizer.get_vocab()) - special:
        raise UnsupportedModelError(
            f"{folder} has no tokenizer: no vocabulary was found", "add its tokenizer.json"
        )
    return document


def _converted_tokenizer(folder: Path) -> str:
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        if (folder / name).is_file():
            (folder / name).read_text(encoding="utf-8")  # tokenizers would raise a bare Exception
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return str(tokenizer.backend_tokenizer.to_str())
