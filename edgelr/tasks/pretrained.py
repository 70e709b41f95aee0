"""A Hugging Face folder's weights and configuration, read strictly.

Folders come from strangers: weights are tensors and nothing else, code beside them is never run, and whatever
is odd is said here rather than found later as a poor result.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn

from edgelr.errors import MissingRequirementError, UnsupportedModelError
from edgelr.lowrank.checkpoint import check_finite

# What transformers and safetensors raise, as tried out: for a damaged safetensors file; for a missing,
# truncated or directory-like one; for a .bin that is empty, that holds other objects (never executed), or not
# even those; for a config.json with an unknown model_type, values of a wrong type, or values that no layer
# can have.
UNREADABLE = (
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


def load_pretrained(folder: Path, kind: str, what: str, unused: Sequence[str] = ()) -> nn.Module:
    """Load a model in fp32: every tensor there, of its shape, and finite.

    Args:
        folder: Has ``config.json`` and weights.
        kind: Class of transformers that chooses the model's class, such as ``AutoModel``.
        what: What the model is to be, for an error: ``an encoder``.
        unused: Prefixes of tensors that may be missing or too many.

    Raises:
        MissingRequirementError: transformers is not installed.
        UnsupportedModelError: The checkpoint is damaged, does not fit its configuration, or is of an unknown
            kind; the folder is named.
    """
    check_config(folder)
    model, info = _from_pretrained(folder, kind, what)
    _check_keys(folder, info, tuple(unused))
    check_numbers(folder, model)
    assert isinstance(model, nn.Module)
    return model


def check_numbers(folder: Path, model: nn.Module) -> None:
    """Check that every parameter and buffer of the model in a folder is a finite number.

    Raises:
        UnsupportedModelError: One is not; it is named.
    """
    try:
        check_finite(model)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{folder}: {error.found}", error.hint) from None


def _from_pretrained(folder: Path, kind: str, what: str) -> tuple[Any, dict[str, Any]]:
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise MissingRequirementError(
            "transformers is not installed", "pip install 'edgelr[build]'"
        ) from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = getattr(transformers, kind).from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except UNREADABLE as error:
        raise UnsupportedModelError(
            f"{folder} cannot be loaded as {what}: {reason_of(error)}",
            "the checkpoint is damaged or of a kind that transformers does not know; get it again",
        ) from error
    return model, info


def reason_of(error: BaseException) -> str:
    """The first line of what a library raised for a folder, in a form that advises nothing unsafe."""
    if isinstance(error, pickle.UnpicklingError):
        # Its own text advises to run what the file holds.
        return "its .bin is damaged or holds more than tensors, which is never executed"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_config(folder: Path) -> None:
    """Check what transformers would not say well, or not at all.

    Raises:
        UnsupportedModelError: The configuration cannot be read, is that of a quantized model, or an index of
            weights names files that are not there.
    """
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise UnsupportedModelError(f"{folder / 'config.json'} is not an object", "get the checkpoint again")
    if config.get("quantization_config") is not None:
        raise UnsupportedModelError(
            f"{folder} is quantized already (quantization_config in config.json)",
            "give the full-precision checkpoint: its weights are to be factored first",
        )
    for index in sorted(folder.glob("*.index.json")):
        document = read_json(index)
        shards = document.get("weight_map") if isinstance(document, dict) else None
        if not isinstance(shards, dict):
            raise UnsupportedModelError(f"{index} has no weight_map", "get the checkpoint again")
        for shard in shards.values():
            # A name that leads out of the folder is not even looked at.
            inside = isinstance(shard, str) and Path(shard).name == shard
            if not inside or not (folder / shard).is_file():
                raise UnsupportedModelError(
                    f"{index} names {shard!r}, which is not a file of its folder", "get the checkpoint again"
                )


def _check_keys(folder: Path, info: dict[str, Any], unused: tuple[str, ...]) -> None:
    for problem in ("missing", "unexpected"):
        keys = sorted(key for key in info[f"{problem}_keys"] if not key.startswith(unused))
        if keys:
            more = ", …" if len(keys) > 4 else ""
            raise UnsupportedModelError(
                f"{folder}: {len(keys)} tensors of the checkpoint are {problem}: {', '.join(keys[:4])}{more}",
                "config.json and the weights do not belong together; get the checkpoint again",
            )


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON
    """Read a JSON file of a model's folder.

    Raises:
        UnsupportedModelError: It is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnsupportedModelError(f"{path} cannot be read: {error}", "get the model again") from error
