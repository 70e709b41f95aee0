"""How far quantized graphs are from fp32, on the texts of their package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.errors import QuantizeError, UnsupportedModelError
from edgelr.progress import Progress
from edgelr.runtime.package import model_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_COMPARED = 100  # texts
_STEPS = 8  # of a translation


def compare_with_fp32(package: Package, folder: Path, progress: Progress) -> dict[str, float]:
    """Mean cosine of each quantized graph's output to the fp32 graph's; what is precomputed is made anew.

    One text a call: the scale of a dynamically quantized activation depends on everything in the batch.

    Args:
        package: The fp32 package.
        folder: Where the quantized graphs are, under the same names.
        progress: Where to show how far it is.

    Returns:
        Role -> cosine.

    Raises:
        QuantizeError: An output is not finite.
        UnsupportedModelError: The task is unknown.
    """
    match package.task:
        case "sentence-embedding":
            return {"model": _compare_embeddings(package, folder, progress)}
        case "translation":
            return _compare_steps(package, folder, progress)
        case _:
            raise UnsupportedModelError(
                f"{package.folder}: the task {package.task!r} is unknown", "update edgelr"
            )


def _compare_embeddings(package: Package, folder: Path, progress: Progress) -> float:
    """Also writes the index of the quantized graph's passages."""
    import numpy as np

    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session
    from edgelr.examples import Example
    from edgelr.runtime.arrays import write_arrays
    from edgelr.runtime.examples import folder_examples
    from edgelr.runtime.text import INDEX, embed, package_tokenizer

    device = load_devices()["cpu-1t"]
    fp32 = model_path(package)
    texts = [example.passage for example in folder_examples(package.folder, Example)]
    tokenizer = package_tokenizer(package)
    with progress.bar("comparing with fp32", len(texts) + _COMPARED) as advance:
        small = embed(open_session(folder / fp32.name, device), tokenizer, texts, advance)
        dense = embed(open_session(fp32, device), tokenizer, texts[:_COMPARED], advance)
    _check_finite(small, fp32.name)
    write_arrays(folder / INDEX, {"passages": small.astype(np.float16)})
    return float(_cosines(dense, small[:_COMPARED]).mean())


def _check_finite(values: NDArray[np.float32], name: str) -> None:
    import numpy as np

    if not np.isfinite(values).all():
        raise QuantizeError(f"{name}: the quantized graph gives values that are not finite")


def _cosines(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float32]:
    import numpy as np

    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / norms, np.float32)
