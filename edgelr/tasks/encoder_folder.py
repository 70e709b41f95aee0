"""A Hugging Face text encoder's folder: its transformer, pooling and tokenizer, read strictly.

Folders come from strangers: weights are tensors and nothing else, code beside them is never run, and whatever
is odd is said here rather than found later as a poor result.
"""

from __future__ import annotations

import inspect
import json
import pickle
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn

from edgelr.errors import DamagedArtifactError, MissingRequirementError, UnsupportedModelError
from edgelr.lowrank.checkpoint import check_finite

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
# What transformers raises, as tried out: for a damaged safetensors file; for a missing, truncated or
# directory-like one; for a .bin that is empty, that holds other objects (never executed), or not even those;
# for a config.json with an unknown model_type, values of a wrong type, or values that no layer can have.
_UNREADABLE = (
    SafetensorError,
    OSError,
    EOFError,
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    ImportError,
    StrictDataclassError,
)


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
    _check_config(folder)
    model, info = _from_pretrained(folder)
    _check_keys(folder, info)
    if "input_ids" not in inspect.signature(model.forward).parameters or model.config.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{folder} is a {type(model).__name__}, which is not an encoder of texts",
            "give a model such as BERT, RoBERTa or DistilBERT",
        )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # pools for pre-training; never part of a sentence embedding
    try:
        check_finite(model)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{folder}: {error.found}", error.hint) from None
    assert isinstance(model, nn.Module)
    return model


def _from_pretrained(folder: Path) -> tuple[Any, dict[str, Any]]:
    try:
        from transformers import AutoModel
        from transformers.utils import logging
    except ImportError as error:
        raise MissingRequirementError(
            "transformers is not installed", "pip install 'edgelr[build]'"
        ) from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except _UNREADABLE as error:
        raise UnsupportedModelError(
            f"{folder} cannot be loaded as an encoder: {_reason(error)}",
            "the checkpoint is damaged or of a kind that transformers does not know; get it again",
        ) from error
    return model, info


def _reason(error: BaseException) -> str:
    if isinstance(error, pickle.UnpicklingError):
        # Its own text advises to run what the file holds.
        return "its .bin is damaged or holds more than tensors, which is never executed"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _check_config(folder: Path) -> None:
    """What transformers would not say well, or not at all."""
    config = _read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise UnsupportedModelError(f"{folder / 'config.json'} is not an object")
    if config.get("quantization_config") is not None:
        raise UnsupportedModelError(
            f"{folder} is quantized already (quantization_config in config.json)",
            "give the full-precision checkpoint: its weights are to be factored first",
        )
    for index in sorted(folder.glob("*.index.json")):
        document = _read_json(index)
        shards = document.get("weight_map") if isinstance(document, dict) else None
        if not isinstance(shards, dict):
            raise UnsupportedModelError(f"{index} has no weight_map", "get the checkpoint again")
        for shard in shards.values():
            # A name that leads out of the folder is not even looked at.
            inside = isinstance(shard, str) and Path(shard).name == shard
            if not inside or not (folder / shard).is_file():
                raise UnsupportedModelError(f"{index} names {shard!r}, which is not a file of its folder")


def _check_keys(folder: Path, info: dict[str, Any]) -> None:
    for problem in ("missing", "unexpected"):
        keys = sorted(key for key in info[f"{problem}_keys"] if not key.startswith(_UNUSED))
        if keys:
            more = ", …" if len(keys) > 4 else ""
            raise UnsupportedModelError(
                f"{folder}: {len(keys)} tensors of the checkpoint are {problem}: {', '.join(keys[:4])}{more}",
                "config.json and the weights do not belong together; get the checkpoint again",
            )


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
        kinds = {module["type"].rsplit(".", 1)[-1]: module["path"] for module in _read_json(listing)}
        place = folder / kinds.get("Pooling", "") / "config.json"
    except (LookupError, TypeError, AttributeError) as error:
        raise UnsupportedModelError(
            f"{listing} is not a list of modules: {type(error).__name__}: {error}", "get the model again"
        ) from error
    if unknown := sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"}):
        raise UnsupportedModelError(f"{listing}: the module kind {', '.join(unknown)} is not supported")
    normalize = "Normalize" in kinds
    return PoolingLayout(_pooling(place) if "Pooling" in kinds else "mean", normalize=normalize)


def _pooling(place: Path) -> Pooling:
    config = _read_json(place)
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
            f"{folder} has no usable tokenizer: {_reason(error)}", "add its tokenizer.json"
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


def _read_json(path: Path) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnsupportedModelError(f"{path} cannot be read: {error}", "get the model again") from error
