"""Inputs of a graph as examples: from an ``.npz``, or one after the other from a user's generator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.artifacts import Graph, Split
from edgelr.errors import DamagedArtifactError, DataError
from edgelr.examples import Call
from edgelr.load.splits import split_by_group
from edgelr.own_code import own_function, running
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.calls import write_calls
from edgelr.runtime.graph_inputs import check_inputs

Inputs = Mapping[str, NDArray[Any]]


def load_arrays(
    path: str, graph: Graph, counts: Mapping[Split, int], seed: int, recipe_folder: Path, folder: Path
) -> dict[Split, tuple[Call, ...]]:
    """Write the arrays of all examples into one file, and split the examples.

    Args:
        path: ``inputs.npz`` or ``file.py:function``.
        graph: That they are for.
        counts: Wanted number of examples of each split.
        seed: Changes which example goes where.
        recipe_folder: What the path is relative to.
        folder: Of the lists of examples.

    Raises:
        DataError: The inputs are missing, malformed, too few, or do not fit the graph.
        UsageError: There is no such file or function.
        UnsupportedModelError: The function fails.
    """
    where, groups = f"task.data.path: {recipe_folder / path}", list[str]()

    def checked() -> Iterator[Inputs]:
        for number, (group, call) in enumerate(calls_of(path, graph, recipe_folder)):
            check_inputs(call, graph, f"{where}, call {number}")
            groups.append(group)
            yield {entry.name: call[entry.name] for entry in graph.inputs}

    calls = write_calls(folder, "inputs", checked())
    if not calls:
        raise DataError(f"{where} gives no inputs", "it needs some for every split")
    examples = [
        call if not group else replace(call, group=group) for call, group in zip(calls, groups, strict=True)
    ]
    return split_by_group(examples, counts, seed=seed)


def calls_of(path: str, graph: Graph, recipe_folder: Path) -> Iterator[tuple[str, Inputs]]:
    """Inputs, one call after the other, each with its group; "" for one of its own.

    Args:
        path: ``inputs.npz`` or ``file.py:function``.
        graph: That they are for.
        recipe_folder: What the path is relative to.

    Raises:
        DataError: They cannot be read, or are no calls.
        UsageError: There is no such file or function.
        UnsupportedModelError: The function fails.
    """
    file, _, function = path.partition(":")
    if function:
        yield from _generated(recipe_folder / file, function)
    else:
        yield from (("", call) for call in _stored(recipe_folder / file, graph))


def _stored(path: Path, graph: Graph) -> Iterator[Inputs]:
    """The calls of an ``.npz``: numbered, or an example a row."""
    try:
        arrays = read_arrays(path)
    except DamagedArtifactError as error:
        raise DataError(f"task.data.path: {error.found}", "an .npz file is needed") from error
    names = [entry.name for entry in graph.inputs]
    parted = [name.rpartition(".") for name in arrays]
    numbers = {int(end) for name, _, end in parted if name in names and end.isdecimal()}
    if numbers:
        for number in sorted(numbers):
            yield {name: arrays[f"{name}.{number}"] for name in names if f"{name}.{number}" in arrays}
        return
    if missing := [name for name in names if name not in arrays]:
        raise DataError(
            f"{path} has arrays {', '.join(sorted(arrays)[:8]) or '(none)'}, "
            f"the graph also wants {', '.join(missing)}",
            "call each as its input, with an example a row; or number the calls, such as 'x.0'",
        )
    sizes = {name: len(arrays[name]) if arrays[name].ndim else 0 for name in names}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise DataError(
            f"{path}: the inputs have different numbers of rows: {told}",
            "an example is a row of each; number the calls instead, such as 'x.0', where it is not",
        )
    for row in range(sizes[names[0]]):
        yield {name: arrays[name][row : row + 1] for name in names}


def _generated(path: Path, function: str) -> Iterator[tuple[str, Inputs]]:
    """What a user's generator gives; the recipe names the file itself, so it may run."""
    made = own_function(f"{path}:{function}")
    with running(path):
        for each in made():
            group, call = each if isinstance(each, tuple) and len(each) == 2 else ("", each)
            if not isinstance(call, Mapping) or not isinstance(group, str):
                raise DataError(
                    f"{path}: {function} gives {type(each).__name__}",
                    "each call is a dict of arrays by input, or (group, dict)",
                )
            yield group, {name: np.asarray(array) for name, array in call.items()}
