"""How a decoder is told how many tokens its caches hold, where their shapes do not say so.

The names are those of the operators that read them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PAST, PASTS, TOTAL = "past_length", "seqlens_k", "total_sequence_length"
COUNTERS = (PAST, PASTS, TOTAL)


def counters_of(rows: int, past: int) -> dict[str, NDArray[np.int64] | NDArray[np.int32]]:
    """The inputs that say so.

    Args:
        rows: Sequences; all of them have as many tokens.
        past: Tokens before the one of this step.

    Returns:
        ``past_length`` int64 ``[1]``, ``seqlens_k`` int32 ``[rows]``, which is the index of the last token,
        and ``total_sequence_length`` int32 ``[1]``.
    """
    import numpy as np

    return {
        PAST: np.array([past], np.int64),
        PASTS: np.full(rows, past, np.int32),
        TOTAL: np.array([past + 1], np.int32),
    }
