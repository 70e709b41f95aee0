"""Task ``custom``: a user's own torch module, held to its own outputs; see ``own_module.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.examples import Call
from edgelr.kinds.arrays import own_metric
from edgelr.metrics.arrays import array_scores
from edgelr.own_code import defines, own_function, running
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.runtime.calls import copy_calls, read_calls, write_outputs
from edgelr.tasks.own_graphs import own_graph
from edgelr.tasks.own_module import Own, named_outputs, read_own
from edgelr.tasks.row_batches import RowBatches, same_shapes
from edgelr.tasks.task import Arrays, Batch, GraphSpec, Loss, Outputs, Reading, Score

EXAMPLE = Call
SHRINKS_HEADS = "*"


def load_model(folder: Path) -> nn.Module:
    """The module as its file builds it, with the weights that stage load kept.

    Raises:
        UnsupportedModelError: The file changed, and no longer builds the module of these weights.
    """
    own = read_own(folder)
    with running(own.path):
        module: nn.Module = own_function(own.module)()
    try:
        module.load_state_dict(load_file(folder / "weights.safetensors"))
    except RuntimeError as error:
        raise UnsupportedModelError(
            f"{own.module} builds another module now: {str(error).strip().splitlines()[0]}",
            "if it reads other files, the change is there: build with a new --out",
        ) from error
    return module.eval()


def check_reach(model: nn.Module, reading: Reading) -> None:
    """Nothing: stage load has run the module on its data."""


def token_table(model: nn.Module) -> nn.Module:
    """None of its layers is known to look tokens up.

    Raises:
        UnsupportedModelError: Always.
    """
    raise UnsupportedModelError("a module of your own has no tokens", "leave export.drop_unused_tokens out")


def seen_tokens(reading: Reading, examples: Sequence[Call]) -> set[int]:
    """None: what is in its arrays is not known."""
    return set()


def example_batches(reading: Reading, examples: Sequence[Call], size: int) -> list[Batch]:
    """What the module reads of the examples, rows of the same shapes together."""
    own = read_own(reading.folder)
    rows = [inputs_of(own, row) for row in read_rows(reading, examples)]
    groups = same_shapes(rows)
    return [
        stacked([rows[index] for index in group[start : start + size]])
        for group in groups
        for start in range(0, len(group), size)
    ]


def read_rows(reading: Reading, examples: Sequence[Call]) -> list[Batch]:
    """All tensors of the examples, each a batch of one row."""
    assert reading.sounds is not None
    calls = read_calls(reading.sounds, examples)
    return [{name: torch.from_numpy(array) for name, array in call.items()} for call in calls]


def inputs_of(own: Own, batch: Batch) -> Batch:
    """What the module is called with."""
    return {name: batch[name] for name in own.inputs}


def stacked(rows: Sequence[Batch]) -> Batch:
    """Rows of the same shapes as one batch."""
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


def run(model: nn.Module, batch: Batch, *, hidden: bool = False) -> Outputs:
    """All floating-point outputs, a vector each row: ``[batch, numbers]``."""
    found = [value for value in named_outputs(model(**batch)).values() if value.is_floating_point()]
    return Outputs(result=torch.cat([value.reshape(len(value), -1) for value in found], dim=1))


def distance(result: Tensor, reference: Tensor) -> Tensor:
    """Squared difference over the square of the reference, of each row."""
    squares = reference.square().sum(1).clamp_min(torch.finfo(reference.dtype).tiny)
    return (result - reference).square().sum(1) / squares


def probe(result: Tensor) -> Tensor:
    """A random direction: ``distance`` grows by half the square of what moves along it."""
    norms = result.detach().norm(dim=1, keepdim=True).clamp_min(torch.finfo(result.dtype).tiny)
    scalar: Tensor = (result * torch.randn_like(result) * 2**0.5 / norms).sum()
    return scalar


def losses(
    teacher: nn.Module,
    reading: Reading,
    examples: Sequence[Call],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """Distance to the dense model's outputs, and the file's own ``loss`` where it has weight; see ``Task``.

    Raises:
        UsageError: There is weight on it, and the file has none.
    """
    own, device = read_own(reading.folder), next(teacher.parameters()).device
    rows = read_rows(reading, examples)
    order = RowBatches.of(rows, settings.batch, seed)
    task_loss = own.function("loss") if settings.task_loss else None

    def loss(model: nn.Module, number: int) -> Tensor:
        chosen = [rows[index] for index in order.batch(number)]
        batch = {name: tensor.to(device) for name, tensor in stacked(chosen).items()}
        total = torch.zeros((), device=device)
        if settings.distill.outputs:
            with torch.no_grad():
                wanted = run(teacher, inputs_of(own, batch)).result
            error = distance(run(model, inputs_of(own, batch)).result.float(), wanted.float()).mean()
            total = total + settings.distill.outputs * error
        if task_loss is not None:
            with running(own.path):
                total = total + settings.task_loss * task_loss(model, batch)
        return total

    return loss


def validator(dense: nn.Module, reading: Reading, examples: Sequence[Call]) -> Callable[[nn.Module], float]:
    """The file's own ``metric`` where it has one, else the cosine to the dense model's outputs."""
    score = scorer(dense, reading, examples)
    name = "metric" if metric_of(read_own(reading.folder)) else "cosine"
    return lambda model: score(model)[name]


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Call]) -> Score:
    """Mean of every metric, as ``validate`` measures them of packages."""
    own, rows = read_own(reading.folder), read_rows(reading, examples)
    references = outputs_of(dense, own, rows)
    calls = [{name: tensor.numpy() for name, tensor in row.items()} for row in rows]

    def score(model: nn.Module) -> dict[str, float]:
        outputs = references if model is dense else outputs_of(model, own, rows)
        found = array_scores(outputs, references, own_metric(metric_of(own), outputs, calls))
        return {metric: scores.value for metric, scores in found.items()}

    return score


def metric_of(own: Own) -> str | None:
    """``FILE.py:metric``, where the file has such a function."""
    return f"{own.path}:metric" if defines(own.path, "metric") else None


@torch.inference_mode()
def outputs_of(model: nn.Module, own: Own, rows: Sequence[Batch]) -> list[dict[str, NDArray[Any]]]:
    """Outputs of every row by itself, as a package is run."""
    device = next(model.parameters()).device
    found = []
    for row in rows:
        given = {name: tensor.to(device) for name, tensor in inputs_of(own, row).items()}
        outputs = named_outputs(model(**given))
        found.append({name: outputs[name].cpu().numpy() for name in own.outputs})
    return found


def graphs(model: nn.Module, reading: Reading, examples: Sequence[Call]) -> list[GraphSpec]:
    """One graph: the module's own inputs and outputs by name; see ``own_graphs.py``."""
    own = read_own(reading.folder)
    rows = [inputs_of(own, row) for row in read_rows(reading, examples)]
    return [own_graph(model, own, rows)]


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """Nothing: arrays are its input as they are."""
    return {}


def furnish(
    folder: Path,
    model: nn.Module,
    dense: nn.Module,
    reading: Reading,
    examples: Sequence[Call],
    progress: Progress,
) -> Arrays:
    """Write the arrays of the examples, and what the dense model gives for them; see ``Task``."""
    assert reading.sounds is not None
    own, rows = read_own(reading.folder), read_rows(reading, examples)
    copy_calls(reading.sounds, folder, examples)
    outputs = outputs_of(dense, own, rows)
    calls = [{name: cast(np.ndarray[Any, Any], value.numpy()) for name, value in row.items()} for row in rows]
    write_outputs(folder, outputs, own_metric(metric_of(own), outputs, calls))
    return {}
