"""Compare a graph in ONNX Runtime with the torch module it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from edgelr.device.load import load_devices
from edgelr.device.session import open_session
from edgelr.errors import ExportError, UnsupportedModelError
from edgelr.runtime.caches import COUNTERS, PAST, counters_of
from edgelr.runtime.graph import run_graph
from edgelr.runtime.masked_caches import PAST_MASK
from edgelr.tasks.task import GraphSpec

Case = dict[str, NDArray[Any]]
_ROOM = 4  # tokens


def check_parity(spec: GraphSpec, path: Path, tolerance: float) -> tuple[list[Case], float]:
    """Run every case through torch and through the graph.

    Args:
        spec: The torch module, before any wrapping, and the graph's cases.
        path: The exported graph.
        tolerance: Largest difference allowed, of the largest number of an output where that is above 1:
            fp32 rounds in proportion, and keys of T5 are not scaled.

    Returns:
        The cases with torch's outputs added, and the largest difference found.

    Raises:
        ExportError: An output is not finite, or differs by more than ``tolerance``; the shape is named.
    """
    session = open_session(path, load_devices()["cpu-1t"])
    cases: list[Case] = []
    worst = 0.0
    for case in spec.cases:
        with torch.inference_mode():
            result = spec.module(*spec.arguments(case))
        expected = [tensor.float().numpy() for tensor in (result if isinstance(result, tuple) else (result,))]
        feeds: Case = {name: tensor.numpy() for name, tensor in case.items()}
        shape = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in case.items())
        for found in _runs(spec.role, session, feeds):
            for name, theirs in zip(spec.outputs, expected, strict=True):
                where = f"{spec.role}: '{name}' at {shape}"
                worst = max(worst, _difference(where, found[name], theirs, tolerance))
        cases.append({**feeds, **dict(zip(spec.outputs, expected, strict=True))})
    return cases, worst


def _runs(role: str, session: InferenceSession, feeds: Case) -> list[Case]:
    """Outputs of the graph; of one that writes into its caches also with room in them, as they are used."""
    try:
        names = {entry.name for entry in session.get_inputs()}
        if PAST not in names:
            return [run_graph(session, feeds)]
        if PAST_MASK in names:
            return _under_a_mask(session, feeds)
        caches = {
            name: array for name, array in feeds.items() if name.startswith("past_") and name not in COUNTERS
        }
        (rows, tokens), past = feeds["input_ids"].shape, next(iter(caches.values())).shape[2]
        told = feeds | counters_of(rows, past, tokens)
        # Beyond the tokens there may be anything; what is no number would show.
        room = ((0, 0), (0, 0), (0, tokens - 1 + _ROOM), (0, 0))
        wide = {name: np.pad(array, room, constant_values=np.nan) for name, array in caches.items()}
        roomy = run_graph(session, told | wide)
        cut = {
            name: array[:, :, : past + tokens] for name, array in roomy.items() if name.startswith("present_")
        }
        return [run_graph(session, told), roomy | cut]
    except UnsupportedModelError as error:
        raise ExportError(f"{role}: {error}", "please report the model") from error


def _under_a_mask(session: InferenceSession, feeds: Case) -> list[Case]:
    """Outputs with full buffers and with room in them, the caches made whole as torch has them."""
    caches = {name: array for name, array in feeds.items() if name.startswith("past_")}
    past = next(iter(caches.values())).shape[2]
    found = []
    for room in (0, _ROOM):
        more = ((0, 0), (0, 0), (0, room), (0, 0))
        # Beyond the tokens there may be any number.
        wide = {name: np.pad(array, more, constant_values=1.0) for name, array in caches.items()}
        mask = np.broadcast_to(np.arange(past + room) < past, (len(feeds["input_ids"]), past + room))
        counters = {PAST: np.array([past]), PAST_MASK: mask.astype(np.int64)}
        given = run_graph(session, feeds | wide | counters)
        for name, array in caches.items():
            present = name.replace("past", "present", 1)
            given[present] = np.concatenate((array, given[present]), axis=2)
        found.append(given)
    return found


def _difference(
    where: str, found: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float
) -> float:
    if found.shape != expected.shape:
        raise ExportError(f"{where}: ONNX gives shape {found.shape}, torch {expected.shape}")
    if not np.isfinite(found).all():
        raise ExportError(f"{where}: ONNX gives values that are not finite", "please report the model")
    difference = float(np.abs(found - expected).max(initial=0.0))
    largest = float(np.abs(expected).max(initial=1.0))
    # Neither is finite when torch's own output is not.
    if not np.isfinite(difference) or difference > tolerance * largest:
        raise ExportError(
            f"{where}: torch and ONNX differ by {difference:.3g}, more than the tolerance {tolerance:.3g} "
            f"of numbers up to {largest:.3g}",
            "raise export.tolerance only if you know why; otherwise please report the model",
        )
    return difference
