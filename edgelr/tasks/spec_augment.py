"""Parts of a sound that a model does not hear while its teacher does: SpecAugment, along time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def hidden_spans(rows: int, length: int, share: float, width: int, draw: np.random.Generator) -> Tensor:
    """Draw spans for every row; about ``share`` of it is hidden, less where spans overlap.

    Args:
        rows: Sounds of a batch.
        length: Positions of each.
        share: 0 to 1.
        width: Positions of a span.
        draw: Where chance comes from.

    Returns:
        ``[rows, length]``, true where it is hidden.

    Source:
        Park et al., SpecAugment (2019), section 2, time masking, with a fixed width as in wav2vec 2.0.
    """
    width = min(width, length)
    hidden = torch.zeros(rows, length, dtype=torch.bool)
    for row in hidden:
        # A fraction of a span is one with that chance.
        count = int(share * length / width + draw.random())
        for start in draw.integers(0, length - width, count, endpoint=True).tolist():
            row[start : start + width] = True
    return hidden
