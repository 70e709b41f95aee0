"""A factored model as files: safetensors and its structure, loaded strictly.

A factored checkpoint read by ``from_pretrained`` silently becomes a dense model with random layers. Here the
structure is rebuilt first, and every tensor must be there with its shape and finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgelr.artifact_files import read_factored, write_json
from edgelr.artifacts import Factored
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.lowrank.reduce import restructure
from edgelr.structure import Reduction

_WEIGHTS = "weights.safetensors"


def save_factored(
    model: nn.Module,
    folder: Path,
    *,
    reductions: Sequence[Reduction],
    method: str,
    metrics: dict[str, float] | None = None,
) -> Factored:
    """Write a model's parameters and its structure.

    Args:
        model: The factored (or dense) model.
        folder: Where to write; created when missing.
        reductions: What was done to the dense model.
        method: How the factors were made.
        metrics: Validation metrics, when measured.

    Raises:
        UnsupportedModelError: A weight is not finite; it is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_finite(model)
    save_file(separate(model.state_dict()), folder / _WEIGHTS)
    rows = [asdict(reduction) for reduction in reductions]
    document = {"reductions": rows, "method": method, "metrics": metrics or {}}
    write_json(folder / "structure.json", document)
    return read_factored(folder)


def separate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that safetensors can write: contiguous, none sharing another's memory (tied weights do)."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in state.items():
        own = tensor.detach().cpu().contiguous()
        separate[name] = own.clone() if own.untyped_storage().data_ptr() in seen else own
        seen.add(own.untyped_storage().data_ptr())
    return separate


def load_factored_into(model: nn.Module, factored: Factored) -> nn.Module:
    """Turn a freshly loaded dense model into the factored one, in place.

    Args:
        model: The dense model that was factored.
        factored: Its structure and weights.

    Raises:
        DamagedArtifactError: The file cannot be read, or a tensor is missing, unknown, or of another shape.
        UnsupportedModelError: The structure does not fit the model, or a weight is not finite.
    """
    restructure(model, factored.reductions)
    path = factored.folder / _WEIGHTS
    try:
        tensors = load_file(path)
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DamagedArtifactError(f"{path} does not fit its structure: {error}", "build it again") from error
    if missing or unexpected:
        odd = ", ".join([*missing, *unexpected][:5])
        raise DamagedArtifactError(f"{path}: missing or unknown tensors: {odd}", "build it again")
    check_finite(model)
    return model


def check_finite(model: nn.Module) -> None:
    """Check that every parameter and buffer is a finite number.

    Raises:
        UnsupportedModelError: One is not; it is named.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise UnsupportedModelError(
                f"'{name}' holds {bad} values that are not finite (NaN or infinity) of {tensor.numel()}",
                "the weights are damaged; get them again",
            )
