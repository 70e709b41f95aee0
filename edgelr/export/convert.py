"""Trace a module to ONNX with named dynamic axes."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from edgelr.errors import ExportError
from edgelr.tasks.task import GraphSpec

_LONGEST = 2**24  # of a dynamic axis: minutes of sound in samples
# The exporter may reuse an output's name for a value inside the graph; no module names a value like this.
OUTPUT_PREFIX = "edgelr_output_"


def convert(spec: GraphSpec, module: torch.nn.Module, opset: int) -> Any:  # noqa: ANN401 - onnx_ir.Model
    """Trace ``module`` on the first case of ``spec``.

    Args:
        spec: Cases and axes.
        module: What to trace; called with the case's tensors in order.
        opset: ONNX operator set.

    Returns:
        An ``onnx_ir.Model`` whose outputs are named ``edgelr_output_0`` and so on.

    Raises:
        ExportError: torch could not trace or convert the module, or not for every length of a dynamic axis.
    """
    case = spec.cases[0]
    names = {name for axes in spec.dynamic_axes.values() for name in axes.values()}
    dims = {name: torch.export.Dim(name, min=1, max=_LONGEST) for name in sorted(names)}
    shapes = {name: {axis: dims[dim] for axis, dim in spec.dynamic_axes[name].items()} for name in case}
    try:
        with _quiet(), torch.inference_mode():
            program = torch.onnx.export(
                module,
                spec.arguments(case),
                dynamo=True,
                opset_version=opset,
                dynamic_shapes=spec.arguments(shapes),
                input_names=list(case),
                output_names=[f"{OUTPUT_PREFIX}{number}" for number in range(len(spec.outputs))],
                verbose=False,
                optimize=False,  # that is done by fuse.py, in an order that keeps shared factors shared
            )
    except (RuntimeError, ValueError, TypeError, torch.onnx.OnnxExporterError) as error:
        raise ExportError(
            f"{spec.role}: torch cannot export the graph at opset {opset}: {_reason(error)}",
            "try another export.opset; if none works, the model is of a kind that cannot be exported yet",
        ) from error
    assert program is not None
    _check_axes(program.model, spec)
    return program.model


def _reason(error: BaseException) -> str:
    """The first line of what went wrong first: the exporter's own error only says in which step."""
    while isinstance(error, torch.onnx.OnnxExporterError) and error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _check_axes(model: Any, spec: GraphSpec) -> None:  # noqa: ANN401 - onnx_ir.Model
    """A module that works for one length only is traced all the same, with that length as a constant."""
    for value in model.graph.inputs:
        for axis, dim in spec.dynamic_axes.get(value.name, {}).items():
            found = value.shape[axis]
            if isinstance(found, int):
                raise ExportError(
                    f"{spec.role}: torch cannot export the graph with '{dim}' as a dynamic axis: "
                    f"axis {axis} of '{value.name}' became the constant {found}",
                    "the model works for one length only, or branches on it; it cannot be exported yet",
                )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings about itself away from the user; errors are raised anyway."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal.exporter._registration")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
