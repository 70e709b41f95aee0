"""How alike the outputs of two graphs are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgelr.errors import QuantizeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COMPARED = 100  # examples


def cosines(fp32: NDArray[Any], quantized: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Cosine of every row of two outputs.

    Args:
        fp32: ``[rows, values]``.
        quantized: Likewise.
        name: Of the quantized graph's file, for errors.

    Returns:
        ``[rows]``.

    Raises:
        QuantizeError: A value of the quantized graph is not finite.
    """
    import numpy as np

    if not np.isfinite(quantized).all():
        raise QuantizeError(f"{name}: the quantized graph gives values that are not finite")
    norms = np.linalg.norm(fp32, axis=1) * np.linalg.norm(quantized, axis=1)
    return np.asarray((fp32 * quantized).sum(axis=1) / norms, np.float32)
