"""Schemes ``weight-int8`` and ``weight-int4``: blocks of weights with a scale each, activations as they come.

What decodes one token at a time is bound by the bytes of its weights, and these are the fewest. For many
tokens at once dynamic int8 is faster: measure it. The kernel multiplies blocks in int8 (accuracy level 4).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

_ACCURACY_LEVEL = 4  # of MatMulNBits: activations are rounded to int8, block by block


def quantize_weights(source: Path, target: Path, *, bits: Literal[4, 8], block_size: int) -> None:
    """Quantize every MatMul with a constant matrix, by ONNX Runtime's own quantizer.

    Args:
        source: The fp32 graph.
        target: Where to write the quantized one.
        bits: Of a weight.
        block_size: Weights of a column that share a scale and a zero point; the last block may be shorter.
    """
    import onnx

    with _logging_as_it_is():
        from onnxruntime.quantization import matmul_nbits_quantizer as nbits

        config = nbits.DefaultWeightOnlyQuantConfig(
            block_size=block_size,
            is_symmetric=False,
            accuracy_level=_ACCURACY_LEVEL,
            op_types_to_quantize=("MatMul",),
            bits=bits,
        )
        quantizer = nbits.MatMulNBitsQuantizer(onnx.load(source), bits=bits, algo_config=config)
        quantizer.process()
    target.write_bytes(quantizer.model.model.SerializeToString(deterministic=True))


@contextmanager
def _logging_as_it_is() -> Iterator[None]:
    """The quantizer's module configures the root logger when it is imported, and logs every node."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    quantizer = logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer")
    quantizer.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
