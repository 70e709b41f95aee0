"""The graph of a user's own module: its names, its dynamic axes, and cases that try each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.tasks.own_module import Own, PositionalModule, named_outputs
from edgelr.tasks.row_batches import same_shapes
from edgelr.tasks.task import Batch, GraphSpec

_BATCH = 0


def own_graph(model: nn.Module, own: Own, rows: Sequence[Batch]) -> GraphSpec:
    """What to export of a module.

    The parity cases are two rows (traced: sizes 0 and 1 would be taken for constants), one alone, and three
    with every other dynamic axis a quarter shorter.

    Args:
        model: The user's, dense or factored.
        own: Its names and axes.
        rows: What it reads of some examples, at least one.

    Raises:
        UnsupportedModelError: It fails where a dynamic axis is shorter.
    """
    alike = max(same_shapes(rows), key=len)
    picked = [rows[alike[index % len(alike)]] for index in range(3)]
    three = {name: torch.cat([row[name] for row in picked]) for name in own.inputs}
    two, one = ({name: tensor[:count] for name, tensor in three.items()} for count in (2, 1))
    cases = (two, one, _shorter(three, own.axes))
    outputs = [_outputs(model, own, case) for case in cases]
    return GraphSpec(
        role="model",
        module=PositionalModule(model, own.inputs, own.outputs),
        cases=cases,
        dynamic_axes=own.axes,
        outputs=own.outputs,
        output_axes={
            name: _output_axes(name, [found[name] for found in outputs], cases, own) for name in own.outputs
        },
        plain=0,
        travels=False,  # what travels are the outputs for every example; arrays may be large
        idle=_idle(model, two),
        exact=False,
    )


def _shorter(case: Batch, axes: Mapping[str, Mapping[int, str]]) -> Batch:
    """A quarter less of every dynamic axis but the batch."""
    found = {}
    for name, tensor in case.items():
        for axis in axes[name]:
            if axis != _BATCH:
                tensor = tensor.narrow(axis, 0, _less(tensor.shape[axis]))  # noqa: PLW2901
        found[name] = tensor.contiguous()
    return found


def _less(size: int) -> int:
    return min(size, max(2, size * 3 // 4))


@torch.inference_mode()
def _outputs(model: nn.Module, own: Own, case: Batch) -> dict[str, Tensor]:
    try:
        return named_outputs(model(**case))
    except (RuntimeError, ValueError, IndexError) as error:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in case.items())
        raise UnsupportedModelError(
            f"{own.path}: the module fails with {shapes}: {str(error).strip().splitlines()[0]}",
            "take the axis that cannot have every size out of dynamic_axes",
        ) from error


def _output_axes(output: str, outputs: Sequence[Tensor], cases: Sequence[Batch], own: Own) -> dict[int, str]:
    """Axes of an output that change: called as the dynamic axis of the same size in every case, if any."""
    sizes: dict[str, list[int]] = {}
    for name, axes in own.axes.items():
        for axis, called in axes.items():
            sizes.setdefault(called, [case[name].shape[axis] for case in cases])
    found = {}
    for axis in range(outputs[0].ndim):
        seen = [tensor.shape[axis] for tensor in outputs]
        named = [called for called, known in sizes.items() if known == seen and len(set(known)) > 1]
        if named or len(set(seen)) > 1:
            found[axis] = named[0] if named else f"{output}_{axis}"
    return found


@torch.inference_mode()
def _idle(model: nn.Module, case: Batch) -> tuple[nn.Module, ...]:
    """Layers that a call does not run."""
    ran: set[int] = set()
    layers = [module for module in model.modules() if not list(module.children())]

    def note(module: nn.Module, *_: object) -> None:
        ran.add(id(module))

    handles = [module.register_forward_hook(note) for module in layers]
    try:
        model(**case)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(module for module in layers if id(module) not in ran)
