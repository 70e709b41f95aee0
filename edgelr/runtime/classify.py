"""Texts in, scores of labels out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgelr.artifacts import Package
from edgelr.errors import UnsupportedModelError
from edgelr.runtime.answers import check_finite
from edgelr.runtime.graph import run_graph
from edgelr.runtime.text import batch_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

LOGITS = "logits"


def logits_of(
    package: Package, session: InferenceSession, tokenizer: Tokenizer, text: str
) -> NDArray[np.float32]:
    """Scores of every label for one text, ``[labels]``.

    Args:
        package: What an error names.
        session: Its graph, open.
        tokenizer: Its own.
        text: Any.

    Raises:
        ExportError, QuantizeError: A score is not finite.
        UnsupportedModelError: The graph does not fit the task.
    """
    found = run_graph(session, batch_tokens(tokenizer, [text]))
    if LOGITS not in found:
        raise UnsupportedModelError(
            f"{package.folder}: the graph gives {', '.join(found)}, and no {LOGITS}", "build it again"
        )
    check_finite(found[LOGITS], package)
    row: NDArray[np.float32] = found[LOGITS][0]
    return row


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The softmax of scores ``[labels]``."""
    import numpy as np

    powers = np.exp(logits.astype(np.float64) - logits.max())
    shares: NDArray[np.float64] = powers / powers.sum()
    return shares
