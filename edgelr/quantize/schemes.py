"""Which function quantizes the matrices of a graph, by the name of a scheme."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import assert_never

from edgelr.quantize.dynamic import quantize_matrices
from edgelr.quantize.weights import quantize_weights
from edgelr.recipe.schema import Scheme

BLOCKED = ("weight-int8", "weight-int4")  # schemes whose weights come in blocks with a scale each

Quantizer = Callable[[Path, Path], None]
"""(fp32 graph, where to write the quantized one)"""


def quantizer(scheme: Scheme, block_size: int) -> Quantizer:
    """What quantizes the matrices of a graph.

    Args:
        scheme: As a recipe names it.
        block_size: Weights that share a scale, for the schemes that have blocks.
    """
    match scheme:
        case "int8-dynamic":
            return quantize_matrices
        case "weight-int8":
            return partial(quantize_weights, bits=8, block_size=block_size)
        case "weight-int4":
            return partial(quantize_weights, bits=4, block_size=block_size)
        case _:
            assert_never(scheme)
