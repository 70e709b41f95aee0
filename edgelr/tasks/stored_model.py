"""A causal language model whose matrices stay in their safetensors files, for models as large as memory.

Only its shape is built, as the configuration says; then every matrix becomes a tensor that is read when it is
used (``lowrank/stored.py``), and everything small, such as norms and biases, is read at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from edgelr.lowrank.stored import StoredTensor, stored_tensor
from edgelr.runtime.memory import free_bytes
from edgelr.tasks.pretrained import UNREADABLE, check_numbers, read_json

# Of the free memory, what a model may take in fp32 to be loaded as a whole: a stage holds up to four of it.
LARGEST_SHARE = 0.25
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a tensor of a checkpoint is, and its shape."""

    path: Path
    name: str
    shape: tuple[int, ...]

    def stored(self) -> StoredTensor:
        return stored_tensor(self.path, self.name, self.shape)


def load_stored(folder: Path) -> nn.Module | None:
    """Load a model that is too large for the free memory.

    Args:
        folder: Has weights, in one file or in several with an index, and passed ``check_config``.

    Returns:
        The model as transformers would give it, in fp32; None where it is small enough to be loaded as a
        whole, and where anything about it is unusual: to know all of that is the ordinary loader's task.

    Raises:
        UnsupportedModelError: A weight is not finite; it is named.
    """
    try:
        places = _places(folder)
        if 4 * sum(math.prod(place.shape) for place in places.values()) <= LARGEST_SHARE * free_bytes():
            return None
        model = _skeleton(folder)
        if not _fill(model, places):
            return None
    except UNREADABLE:
        return None
    check_numbers(folder, model)
    assert isinstance(model, nn.Module)
    return model


def _places(folder: Path) -> dict[str, _Place]:
    """Every tensor of a checkpoint; of one that has no safetensors, none."""
    if (folder / _WHOLE).is_file() or not (folder / _INDEX).is_file():
        files = [path for path in (folder / _WHOLE,) if path.is_file()]
    else:
        files = [folder / name for name in sorted(set(read_json(folder / _INDEX)["weight_map"].values()))]
    found = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                shape = tuple(file.get_slice(name).get_shape())
                found[name] = _Place(path=path, name=name, shape=shape)
    return found


def _skeleton(folder: Path) -> Any:  # noqa: ANN401 - a model of transformers
    """The model without weights, but with what it computes from its configuration."""
    import transformers
    from accelerate import init_empty_weights

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with init_empty_weights(include_buffers=False):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.tie_weights()
    with suppress(OSError):  # a folder need not have any
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model


def _fill(model: Any, places: Mapping[str, _Place]) -> bool:  # noqa: ANN401
    """Give a skeleton its weights; False where they do not fit it name by name."""
    made: dict[int, nn.Parameter] = {}
    used: set[str] = set()
    for names, tensor in _tensors(model):
        prefix = f"{model.base_model_prefix}."  # which the checkpoint of a bare model lacks
        known = {each for name in names for each in (name, name.removeprefix(prefix)) if each in places}
        found = [places[name] for name in sorted(known)]
        if not found or any(place.shape != tensor.shape for place in found) or not _equal(found):
            return False
        used |= known
        values = found[0].stored()
        if isinstance(tensor, nn.Parameter):
            made[id(tensor)] = nn.Parameter(values if values.ndim > 1 else values.read().clone())
        else:
            tensor.copy_(values.read())
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, made[id(parameter)])
    ignored = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    return not any(all(re.search(each, name) is None for each in ignored) for name in places.keys() - used)


def _tensors(model: nn.Module) -> Iterator[tuple[list[str], Tensor]]:
    """Parameters and buffers of a model, each once with all of its names."""
    names: dict[int, list[str]] = {}
    tensors: dict[int, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
        tensors[id(tensor)] = tensor
    yield from ((names[key], tensors[key]) for key in names)


def _equal(places: Sequence[_Place]) -> bool:
    """Whether what the model has once is the same wherever the checkpoint has it."""
    first, *others = (place.stored() for place in places)
    return all(torch.equal(first.read(), other.read()) for other in others)
