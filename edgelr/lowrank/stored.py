"""Weights that stay in their file: each is read when something is computed with it, and let go of afterwards.

A model whose matrices are such tensors runs, is surveyed and is factored with one matrix of it in memory at a
time, by the same code as any other. What is computed is the same to the bit. What is kept for a gradient is
the tensor and not its values, so a backward pass reads again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

_aten = torch.ops.aten
_VIEWS = (_aten.detach.default, _aten.alias.default, _aten.t.default, _aten.transpose.int)


class StoredTensor(Tensor):
    """A tensor of known shape whose values are elsewhere; it cannot be written to.

    Args:
        read: Gives the values.
        like: A tensor of the same shape, strides and type, such as one on the meta device.
    """

    read: Callable[[], Tensor]

    @staticmethod
    def __new__(cls: type[StoredTensor], read: Callable[[], Tensor], like: Tensor) -> StoredTensor:
        """A wrapper, as torch calls a tensor without memory of its own."""
        with torch.inference_mode(False):  # a view of what was made outside of that mode cannot be of inside
            made: StoredTensor = Tensor._make_wrapper_subclass(
                cls, like.shape, strides=like.stride(), dtype=like.dtype, device=torch.device("cpu")
            )
        made.read = read
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch.Tensor has a static method there
        cls,
        func: Any,  # noqa: ANN401 - torch does not say what an operator is
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever an operator gives
        """Run an operator on the values; a view is another stored tensor, as a layer turns its weight."""
        first, given = args[0], kwargs or {}
        if func in _VIEWS:
            return _view(first, lambda tensor: func(tensor, *args[1:], **given))
        if func._schema.is_mutable and isinstance(first, StoredTensor):
            raise RuntimeError(
                f"{func} writes to a weight that stays in its file; bring it into memory first"
            )
        return func(*_read(args), **{name: _read(value) for name, value in given.items()})


def _view(stored: StoredTensor, see: Callable[[Tensor], Tensor]) -> StoredTensor:
    shape = torch.empty_strided(stored.shape, stored.stride(), dtype=stored.dtype, device="meta")
    return StoredTensor(lambda: see(stored.read()), see(shape))


def _read(value: Any) -> Any:  # noqa: ANN401 - an argument of an operator
    if isinstance(value, list | tuple):
        return type(value)(_read(each) for each in value)
    return value.read() if isinstance(value, StoredTensor) else value


def stored_tensor(path: Path, name: str, shape: Sequence[int]) -> StoredTensor:
    """A tensor of a safetensors file, in fp32 whatever it is stored in.

    Args:
        path: The file; it is opened anew for every read, so that nothing of it stays in memory.
        name: Of the tensor.
        shape: As the file has it.
    """

    def read() -> Tensor:
        with safe_open(path, framework="pt") as file:
            values: Tensor = file.get_tensor(name)
            return values.float()

    return StoredTensor(read, torch.empty(tuple(shape), device="meta"))


def values_of(tensor: Tensor) -> Tensor:
    """An ordinary tensor of the same values, without gradient; itself where it is one."""
    return tensor.read().detach() if isinstance(tensor, StoredTensor) else tensor.detach()


def bring_in(module: nn.Module, *, empty: bool = False) -> nn.Module:
    """Make ordinary parameters of the stored ones, in place; those that are shared stay so.

    Args:
        module: A model, or a layer of one, with all layers that share a weight with it.
        empty: Whether their values are of no interest, as others are loaded into them.
    """
    made: dict[int, nn.Parameter] = {}
    for each in module.modules():
        for name, parameter in each.named_parameters(recurse=False):
            if isinstance(parameter, StoredTensor):
                if id(parameter) not in made:
                    values = torch.empty(parameter.shape) if empty else parameter.read().clone()
                    made[id(parameter)] = nn.Parameter(values, requires_grad=parameter.requires_grad)
                setattr(each, name, made[id(parameter)])
    return module
