"""What a killed run resumes from: one file, replaced atomically, read without running anything in it."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_FILE = "checkpoint.pt"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state after ``step`` steps.

    Attributes:
        step: Steps done.
        model: The student's state.
        optimizer: The optimizer's state.
        best: State of the best validation so far.
        best_score: Its score.
        stale: Validations since then.
        history: ``{"step", "loss"?, "score"?}`` rows so far.
        rounded: Whether the simulation of quantization has begun.
    """

    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    best: dict[str, Any]
    best_score: float
    stale: int
    history: list[dict[str, float]]
    rounded: bool = False


def save_checkpoint(checkpoint: Checkpoint, scratch: Path) -> None:
    """Write the checkpoint next to the old one, then put it in its place."""
    temporary = scratch / f"{_FILE}.tmp"
    with temporary.open("wb") as stream:
        torch.save(vars(checkpoint), stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(scratch / _FILE)


def load_checkpoint(scratch: Path) -> Checkpoint | None:
    """Read the last checkpoint, or None when there is none that can be used."""
    path = scratch / _FILE
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # torch itself does not look at the checksums
                return None
        return Checkpoint(**torch.load(path, weights_only=True, map_location="cpu"))
    except (OSError, RuntimeError, EOFError, TypeError, pickle.UnpicklingError, zipfile.BadZipFile):
        return None  # damaged: starting over costs time, using it would cost the result
