"""A user's own torch module: what its file has to define, and how the module is called.

The file is read where a recipe names it, and nowhere else. What it may define is ``OwnModule``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from torch import Tensor, nn

from edgelr.artifact_files import read_json
from edgelr.errors import DamagedArtifactError, UnsupportedModelError, UsageError
from edgelr.own_code import own_function

OWN = "own.json"  # what is known of the module, beside its weights

Named = dict[str, Tensor]


class OwnModule(Protocol):
    """The functions of a user's file; ``build`` may be called otherwise, and only it and ``batches`` must be.

    Attributes:
        inputs: Names of what a batch holds that the module is called with, by keyword. Left out: the
            parameters of its ``forward`` that a batch has.
        dynamic_axes: Input -> axis -> name, of axes whose size may change from call to call. The first axis
            of every tensor is the batch, which always may.
    """

    inputs: Sequence[str]
    dynamic_axes: Mapping[str, Mapping[int, str]]

    def build(self) -> nn.Module:
        """The module. It returns a tensor, tensors, or name -> tensor, each with the batch first."""
        ...

    def batches(self, split: str) -> Iterable[Named]:
        """Data of the split ``train``, ``calibration``, ``validation`` or ``test``, the same every time.

        Name -> tensor with the batch first: what the module reads, and what ``loss`` and ``metric`` compare.
        """
        ...

    def train(self, module: nn.Module) -> None:
        """Train the module that ``build`` returned, once, where the recipe names no weights."""
        ...

    def loss(self, module: nn.Module, batch: Named) -> Tensor:
        """The task's own loss, a scalar, for ``finetune.task_loss``."""
        ...

    def metric(self, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> float:
        """How good the outputs for one row are, better when higher; arrays of NumPy, without torch."""
        ...


@dataclass(frozen=True, kw_only=True)
class Own:
    """What is known of a module once it was loaded.

    Attributes:
        module: ``FILE.py:FUNCTION`` that builds it.
        inputs: Names of its inputs.
        outputs: Names of its outputs.
        axes: Input -> axis -> name, the batch included.
    """

    module: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axes: dict[str, dict[int, str]]

    @property
    def path(self) -> Path:
        """The user's file."""
        return Path(self.module.rpartition(":")[0])

    def function(self, name: str) -> Any:  # noqa: ANN401 - of any kind
        """Another function of the user's file.

        Raises:
            UsageError: It has none of that name.
        """
        return own_function(f"{self.path}:{name}")


def read_own(folder: Path) -> Own:
    """What is known of the module of a folder that stage load wrote.

    Args:
        folder: Holds ``own.json``.

    Raises:
        DamagedArtifactError: It cannot be read.
    """
    document = read_json(folder / OWN)
    try:
        axes = {name: {int(at): axis for at, axis in each.items()} for name, each in document["axes"].items()}
        inputs, outputs = (tuple(document[name]) for name in ("inputs", "outputs"))
        return Own(module=document["module"], inputs=inputs, outputs=outputs, axes=axes)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DamagedArtifactError(f"{folder / OWN} is malformed: {error!r}", "build it again") from error


def input_names(
    module: nn.Module, batch: Sequence[str], wanted: Sequence[str] | None, path: Path
) -> tuple[str, ...]:
    """Names of what the module is called with.

    Args:
        module: The user's.
        batch: Names of what a batch holds.
        wanted: The file's own ``inputs``; None when it has none.
        path: The user's file, for errors.

    Raises:
        UsageError: ``forward`` takes something that is not named so in a batch, or nothing that is.
    """
    has = f"a batch has {', '.join(batch) or 'nothing'}"
    if wanted is not None:
        if missing := [name for name in wanted if name not in batch]:
            raise UsageError(f"{path}: inputs names '{missing[0]}', and {has}", "they go by name")
        return tuple(wanted)
    parameters = inspect.signature(module.forward).parameters.values()
    named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    for each in named:
        if each.default is each.empty and each.name not in batch:
            raise UsageError(
                f"{path}: forward() of {type(module).__name__} wants '{each.name}', and {has}",
                "name the tensors of a batch like the parameters of forward(); they are given by name",
            )
    if names := tuple(each.name for each in named if each.name in batch):
        return names
    raise UsageError(
        f"{path}: forward() of {type(module).__name__} has no parameter that is named in a batch: {has}",
        f"say which it is called with: inputs = {list(batch)!r}",
    )


def named_outputs(result: object, path: str = "the module") -> Named:
    """What a module returns, as name -> tensor.

    Args:
        result: A tensor (``output``), several (``output_0`` and so on), or name -> tensor.
        path: What an error begins with.

    Raises:
        UnsupportedModelError: It is something else, or something else is among it.
    """
    if isinstance(result, Tensor):
        return {"output": result}
    if isinstance(result, Mapping):
        found: dict[str, object] = {str(name): value for name, value in result.items()}
    elif isinstance(result, tuple | list):
        found = {f"output_{number}": value for number, value in enumerate(result)}
    else:
        raise UnsupportedModelError(
            f"{path} returns a {type(result).__name__}", "return a tensor, tensors, or a dict of tensors"
        )
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise UnsupportedModelError(
                f"{path} returns a {type(value).__name__} as '{name}'",
                "return tensors only: wrap the module in one that picks them",
            )
    if not found:
        raise UnsupportedModelError(f"{path} returns nothing", "return a tensor")
    return cast(Named, found)


class PositionalModule(nn.Module):
    """A user's module as it is exported: a tuple of inputs, and one of outputs.

    Args:
        module: The user's.
        inputs: Names of its inputs, in order.
        outputs: Names of its outputs.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.module, self.inputs, self.outputs = module, tuple(inputs), tuple(outputs)

    def forward(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Call the module by name."""
        found = named_outputs(self.module(**dict(zip(self.inputs, tensors, strict=True))))
        return tuple(found[name] for name in self.outputs)
