"""Graph inputs from what a request says of them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def feeds(inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Arrays for ONNX Runtime.

    Args:
        inputs: Name -> nested list of integers, or ``{"normal": shape}`` (random floats, the same every time)
            or ``{"ones": shape}``, both with a ``dtype`` if it is not float32; ones may come ``times`` a
            number.
    """
    import numpy as np

    return {
        name: _made_up(json.dumps(values)) if isinstance(values, dict) else np.array(values, np.int64)
        for name, values in inputs.items()
    }


@functools.cache
def _made_up(values: str) -> NDArray[Any]:
    import numpy as np

    known = json.loads(values)
    dtype = np.dtype(known.get("dtype", "float32"))
    if "ones" in known:
        return np.full(known["ones"], known.get("times", 1), dtype)
    return np.asarray(np.random.default_rng(0).normal(size=known["normal"]), dtype)
