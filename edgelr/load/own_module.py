"""A user's own module and its data: run once, here, and kept as weights and arrays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgelr.artifact_files import write_json
from edgelr.artifacts import SPLITS, Split
from edgelr.errors import DataError, UnsupportedModelError, UsageError
from edgelr.examples import Call
from edgelr.load.model_folder import folder_digest
from edgelr.lowrank.checkpoint import check_finite, separate
from edgelr.own_code import defines, own_function, own_value, running
from edgelr.recipe.custom import Custom
from edgelr.runtime.calls import read_calls, write_calls
from edgelr.tasks.own_module import OWN, input_names, named_outputs

MODEL = "model"  # folder of the snapshot
_UNREADABLE = (OSError, RuntimeError, TypeError, AttributeError, EOFError, ValueError, UnpicklingError)
_WEIGHTS = "weights.safetensors"

Arrays = dict[str, NDArray[Any]]


def load_own(
    settings: Custom, counts: Mapping[Split, int], seed: int, recipe_folder: Path, folder: Path
) -> dict[Split, tuple[Call, ...]]:
    """Build the module, check how it is called, and keep its weights and the rows of every split.

    Args:
        settings: The recipe's section.
        counts: Rows of each split.
        seed: Of torch, before anything of the user's file is called.
        recipe_folder: What its paths are relative to.
        folder: Where ``model/`` and ``data/`` are written.

    Returns:
        The examples of every split.

    Raises:
        UsageError: The file, a function or the weights are missing, or the names do not fit each other.
        UnsupportedModelError: The file has a fault, or the module cannot be used.
        DataError: A split is empty, or a batch has no common first axis.
    """
    place = str((recipe_folder / settings.module).resolve())
    path = Path(place.rpartition(":")[0])
    torch.manual_seed(seed)
    module = _built(place)
    splits = {
        split: write_calls(folder / "data", split, _rows(path, split, counts[split])) for split in SPLITS
    }
    for split, rows in splits.items():
        if not rows:
            raise DataError(f"{path}: batches({split!r}) gives no rows", "yield some for every split")
    _give_weights(module, settings, path, recipe_folder)
    check_finite(module)
    first = read_calls(folder / "data", splits["calibration"][:1])[0]
    write_own(folder / MODEL, place, module, first)
    return splits


def _built(place: str) -> nn.Module:
    path = Path(place.rpartition(":")[0])
    function = own_function(place)
    with running(path):
        module = function()
    if not isinstance(module, nn.Module):
        raise UnsupportedModelError(f"{place} returns a {type(module).__name__}", "return a torch.nn.Module")
    return module.eval()


def _rows(path: Path, split: Split, count: int) -> Iterator[Arrays]:
    """Rows of the user's batches, each a batch of one."""
    batches = own_function(f"{path}:batches")
    with running(path):
        iterator = iter(batches(split))
    taken, number, nothing = 0, 0, object()
    while taken < count:
        with running(path):
            batch = next(iterator, nothing)
        if batch is nothing:
            return
        arrays = _arrays(batch, f"{path}: batch {number} of {split}")
        size = len(next(iter(arrays.values())))
        for row in range(min(size, count - taken)):
            yield {name: array[row : row + 1] for name, array in arrays.items()}
        taken, number = taken + size, number + 1


def _arrays(batch: object, where: str) -> Arrays:
    if not isinstance(batch, Mapping) or not batch:
        raise DataError(f"{where} is a {type(batch).__name__}", "yield a dict of tensors by name")
    found: Arrays = {}
    for name, value in batch.items():
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype.kind not in "fiub" or not array.ndim:
            raise DataError(f"{where}: '{name}' is no tensor with a batch axis", "yield a dict of tensors")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{where}: '{name}' has NaN or infinity in it", "leave that row out")
        found[str(name)] = array
    if len({len(array) for array in found.values()}) > 1:
        sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in found.items())
        raise DataError(f"{where} has {sizes}", "the first axis of every tensor is the batch")
    return found


def _give_weights(module: nn.Module, settings: Custom, path: Path, recipe_folder: Path) -> None:
    if settings.weights is None:
        if defines(path, "train"):
            with running(path):
                own_function(f"{path}:train")(module)
            module.eval()
        return
    file = (recipe_folder / settings.weights).resolve()
    if not file.is_file():
        raise UsageError(f"task.weights: {file} does not exist", "paths are relative to the recipe's folder")
    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        module.load_state_dict(state)
    except (*_UNREADABLE, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedModelError(
            f"{file} does not fit the module: {reason}", "give the state_dict() of this very module"
        ) from error


def write_own(folder: Path, place: str, module: nn.Module, row: Mapping[str, NDArray[Any]]) -> None:
    """Run the module as every later stage will, and write what is to be known of it, with its weights.

    Args:
        folder: Where to.
        place: ``FILE.py:FUNCTION`` that it comes from.
        module: With its weights.
        row: One row of its data.

    Raises:
        UsageError: It cannot be told which of the row it reads, or an axis is none of its inputs'.
        UnsupportedModelError: It fails, or its outputs cannot be used.
    """
    path = Path(place.rpartition(":")[0])
    names = input_names(module, list(row), own_value(path, "inputs"), path)
    axes = {name: {0: "batch"} for name in names}
    for name, more in (own_value(path, "dynamic_axes") or {}).items():
        if name not in axes:
            raise UsageError(f"{path}: dynamic_axes names '{name}', the inputs are {', '.join(names)}")
        if odd := [axis for axis in more if not 0 <= int(axis) < row[name].ndim]:
            raise UsageError(
                f"{path}: dynamic_axes names axis {odd[0]} of '{name}' {list(row[name].shape)}",
                "axes count from 0, the batch",
            )
        axes[name] |= {int(axis): str(called) for axis, called in more.items()}
    pair = {name: torch.from_numpy(np.concatenate([row[name]] * 2)) for name in names}
    with running(path), torch.inference_mode():
        result = module(**pair)
    outputs = named_outputs(result, str(path))
    _check_outputs(outputs, path)
    folder.mkdir(parents=True)
    save_file(separate(module.state_dict()), folder / _WEIGHTS)
    shutil.copyfile(path, folder / "module.py")  # for the record, and the fingerprint
    write_json(folder / OWN, {"module": place, "inputs": list(names), "outputs": list(outputs), "axes": axes})


def own_fingerprint(folder: Path) -> str:
    """sha256 of the weights and of the file that builds the module; where it was is of no matter."""
    return folder_digest(folder, (_WEIGHTS, "module.py"))


def _check_outputs(outputs: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in outputs.items():
        if not tensor.ndim or len(tensor) != 2:
            raise UnsupportedModelError(
                f"{path}: for 2 rows, output '{name}' has the shape {list(tensor.shape)}",
                "return tensors whose first axis is the batch",
            )
    if not any(tensor.is_floating_point() for tensor in outputs.values()):
        raise UnsupportedModelError(
            f"{path}: no output is a floating-point number: {', '.join(outputs)}",
            "return what they are chosen by too, such as logits: that is what a compressed model is held to",
        )
