"""What hardware with fixed sizes and plain operators ask of a model that writes: checked before training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edgelr.device.schema import Device
from edgelr.recipe.load import fault
from edgelr.recipe.schema import Recipe
from edgelr.recipe.tasks import Generate, Recognize, Translate

# Models whose decoder was held against transformers with its cache under a mask, token for token.
_DECODERS = ("marian", "m2m_100", "mbart", "t5", "whisper", "moonshine")
_CTC = ("wav2vec2", "hubert")  # without a decoder


def check_fixed_sizes(
    recipe: Recipe, recipe_path: Path, devices: Sequence[Device], model_folder: Path
) -> None:
    """Make sure that a model which writes can be exported as it is asked for, and run where it is to run.

    Args:
        recipe: Checked.
        recipe_path: Where it was read from.
        devices: Those of this build.
        model_folder: The dense model.

    Raises:
        UsageError: It cannot.
    """
    if not isinstance(recipe.task, Translate | Recognize | Generate):
        return
    kind = _kind_of(model_folder)
    npu = next((each.name for each in devices if each.shapes == "fixed" and each.evidence != "static"), None)
    if isinstance(recipe.task, Generate):
        _check_language_model(recipe, recipe_path, npu)
        return
    if npu is not None and isinstance(recipe.task, Recognize) and kind in ("moonshine", *_CTC):
        message = f"'{npu}' takes fixed sizes only, and a {kind} reads sounds of any length: "
        raise fault(recipe_path, "validate.devices", f"{message}take a Whisper, or another device")
    if npu is not None and recipe.export.operators == "fused":
        message = f"'{npu}' takes fixed sizes only, and a cache of fused operators grows: set it to plain"
        raise fault(recipe_path, "export.operators", message)
    if recipe.export.operators == "plain" and kind not in (None, *_DECODERS, *_CTC):
        message = f"plain is tested for decoders of {', '.join(_DECODERS)}, and this model is a {kind!r}"
        raise fault(recipe_path, "export.operators", f"{message}: set it to fused")


def _check_language_model(recipe: Recipe, recipe_path: Path, npu: str | None) -> None:
    if npu is not None:
        message = f"'{npu}' takes fixed sizes only, and the cache of a language model grows: "
        raise fault(recipe_path, "validate.devices", f"{message}take another device")
    if recipe.export.operators == "plain":
        message = "a plain decoder takes one token a call, and a language model reads a whole text: "
        raise fault(recipe_path, "export.operators", f"{message}set it to fused")


def _kind_of(model_folder: Path) -> str | None:
    """The model's type as its configuration says; None where it says none: whoever loads the model will."""
    try:
        config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    kind = config.get("model_type") if isinstance(config, dict) else None
    return kind if isinstance(kind, str) else None
