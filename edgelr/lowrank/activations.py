"""ReLU in place of GELU, in a model that is tuned with it.

GELU takes half as long as the product before it in 8 bits; ReLU a quarter of that, and whatever narrows its
output for quantization can narrow its input. The two differ by less than 0.17: tuning makes up for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.layers import replace_module


def rectify(model: nn.Module) -> tuple[str, ...]:
    """Put ReLU in the place of every GELU that is a module, in place.

    Args:
        model: Of torch or transformers, whose forms of GELU are classes of their own.

    Returns:
        Dotted names of what was replaced, for ``put_relu``.

    Raises:
        UnsupportedModelError: There is none; a GELU that is called as a function cannot be replaced.
    """
    names = tuple(name for name, module in _named(model) if _is_gelu(module))
    if not names:
        raise UnsupportedModelError(
            "finetune.activations: relu: the model has no GELU that is a module of its own", "leave it out"
        )
    put_relu(model, names)
    return names


def put_relu(model: nn.Module, names: Sequence[str]) -> None:
    """Put ReLU in given places.

    Args:
        model: Changed in place.
        names: Of GELU modules, dotted.

    Raises:
        UnsupportedModelError: One is no GELU of this model.
    """
    found = dict(_named(model))
    for name in names:
        if name not in found or not _is_gelu(found[name]):
            raise UnsupportedModelError(
                f"the structure has ReLU for '{name}', which is no GELU of this model",
                "the checkpoint belongs to another model",
            )
        replace_module(model, name, nn.ReLU())


def _named(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(model.named_modules(remove_duplicate=False))  # several layers may have one GELU


def _is_gelu(module: nn.Module) -> bool:
    return "gelu" in type(module).__name__.lower() and not list(module.children())
