"""A factored model as files: safetensors and its structure, loaded strictly.

A factored checkpoint read by ``from_pretrained`` silently becomes a dense model with random layers. Here the
structure is rebuilt first, and every tensor must be there with its shape and finite.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgelr.artifact_files import read_factored, write_json
from edgelr.artifacts import Factored
from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.lowrank.activations import put_relu
from edgelr.lowrank.reduce import restructure
from edgelr.lowrank.stored import bring_in, values_of
from edgelr.structure import Reduction

_WEIGHTS = "weights.safetensors"
_FURTHER = "weights-{}.safetensors"  # where one file would become larger than this:
FILE_BYTES = 2**30  # weights that stay in their files are in memory as many at a time as one file takes


def save_factored(
    model: nn.Module,
    folder: Path,
    *,
    reductions: Sequence[Reduction],
    method: str,
    metrics: dict[str, float] | None = None,
    rectified: Sequence[str] = (),
) -> Factored:
    """Write a model's parameters and its structure.

    Args:
        model: The factored (or dense) model.
        folder: Where to write; created when missing.
        reductions: What was done to the dense model.
        method: How the factors were made.
        metrics: Validation metrics, when measured.
        rectified: What was GELU in the dense model, and is ReLU.

    Raises:
        UnsupportedModelError: A weight is not finite; it is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_finite(model)
    for number, part in enumerate(_parts(model.state_dict())):
        save_file(separate(part), folder / (_WEIGHTS if number == 0 else _FURTHER.format(number)))
    rows = [asdict(reduction) for reduction in reductions]
    document = {"reductions": rows, "method": method, "metrics": metrics or {}, "rectified": list(rectified)}
    write_json(folder / "structure.json", document)
    return read_factored(folder)


def _parts(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors in order, as many at a time as a file is to hold; at least one, or an empty part."""
    part: dict[str, Tensor] = {}
    size = 0
    for name, tensor in state.items():
        if part and size + tensor.nbytes > FILE_BYTES:
            yield part
            part, size = {}, 0
        part[name] = tensor
        size += tensor.nbytes
    yield part


def separate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that safetensors can write: in memory, contiguous, none sharing another's (tied weights do)."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in state.items():
        own = values_of(tensor).cpu().contiguous()
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
    put_relu(model, factored.rectified)
    bring_in(model, empty=True)
    path = factored.folder / _WEIGHTS
    missing, unknown = set(model.state_dict()), set()
    try:
        for each in (path, *sorted(factored.folder.glob(_FURTHER.format("*")))):
            tensors = load_file(each)
            unknown |= set(model.load_state_dict(tensors, strict=False).unexpected_keys)
            missing -= set(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DamagedArtifactError(f"{path} does not fit its structure: {error}", "build it again") from error
    if missing or unknown:
        odd = ", ".join([*sorted(missing), *sorted(unknown)][:5])
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
