"""Graph inputs from what a request says of them."""

from __future__ import annotations

import base64
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
            number. Or what ``as_request`` makes of an array.
    """
    import numpy as np

    return {
        name: _made_up(json.dumps(values)) if isinstance(values, dict) else np.array(values, np.int64)
        for name, values in inputs.items()
    }


def as_request(array: NDArray[Any]) -> dict[str, Any]:
    """An array of any type, for a line of JSON.

    Args:
        array: Its bytes are kept as base64.
    """
    content = base64.b64encode(array.tobytes()).decode("ascii")
    return {"bytes": content, "shape": list(array.shape), "dtype": str(array.dtype)}


@functools.cache
def _made_up(values: str) -> NDArray[Any]:
    import numpy as np

    known = json.loads(values)
    dtype = np.dtype(known.get("dtype", "float32"))
    if "bytes" in known:
        return np.frombuffer(base64.b64decode(known["bytes"]), dtype).reshape(known["shape"])
    if "ones" in known:
        return np.full(known["ones"], known.get("times", 1), dtype)
    return np.asarray(np.random.default_rng(0).normal(size=known["normal"]), dtype)
