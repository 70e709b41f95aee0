"""ONNX Runtime's quantizers without what they say: that models should be pre-processed, and every node."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Only errors of the root logger are shown, and its handlers stay: a quantizer's module adds its own."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    nodes = logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer")
    root.setLevel(logging.ERROR)
    nodes.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # calibration prints
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
