"""How models are trained and tuned: in which precision, and in which order sums are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch


@contextmanager
def same_sums() -> Iterator[None]:
    """Sums in one order, so that a tuning has the same bytes again.

    The gradient of a table that is read by index, such as Whisper's positions, is otherwise added up in
    whatever order the threads come.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def uses_bf16(precision: Literal["auto", "fp32", "bf16"]) -> bool:
    """Whether to tune in bf16 (weights and optimizer stay fp32); ``auto`` asks the hardware."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())
