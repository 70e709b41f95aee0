"""How far quantized graphs are from fp32, on the texts of their package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.errors import QuantizeError, UnsupportedModelError
from edgelr.progress import Progress
from edgelr.quantize.sources import sound_sources, text_sources
from edgelr.runtime.decoder_graph import TEXT, GraphDecoder, heard_by
from edgelr.runtime.graph import run_graph
from edgelr.runtime.package import model_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgelr.examples import Utterance
    from edgelr.runtime.generation import Generation

    Source = dict[str, NDArray[Any]]

_COMPARED = 100  # texts
_STEPS = 8  # of an output that comes token by token
_ROLES = ("encoder", "decoder")


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
            from edgelr.examples import Translation, spread
            from edgelr.runtime.examples import folder_examples

            examples = spread(folder_examples(package.folder, Translation), _COMPARED)
            return _compare_steps(package, folder, text_sources(package, examples), TEXT, progress)
        case "automatic-speech-recognition" if "model" in package.graphs:
            return {"model": _compare_letters(package, folder, progress)}
        case "automatic-speech-recognition":
            windows = sound_sources(package, _utterances(package), package.folder)
            reads = heard_by(entry.name for entry in package.graphs["encoder"].inputs)
            return _compare_steps(package, folder, windows, reads, progress)
        case _:
            raise UnsupportedModelError(
                f"{package.folder}: the task {package.task!r} is unknown", "update edgelr"
            )


def _compare_embeddings(package: Package, folder: Path, progress: Progress) -> float:
    """Also writes the index of the quantized graph's passages."""
    import numpy as np

    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session
    from edgelr.examples import Example, spread
    from edgelr.runtime.arrays import write_arrays
    from edgelr.runtime.examples import folder_examples
    from edgelr.runtime.text import INDEX, embed, package_tokenizer

    device = load_devices()["cpu-1t"]
    fp32 = model_path(package)
    examples = folder_examples(package.folder, Example)
    few = spread(examples, _COMPARED)
    tokenizer = package_tokenizer(package)
    with progress.bar("comparing with fp32", len(examples) + len(few)) as advance:
        texts = [example.passage for example in examples]
        small = embed(open_session(folder / fp32.name, device), tokenizer, texts, advance)
        dense = embed(open_session(fp32, device), tokenizer, [each.passage for each in few], advance)
    _check_finite(small, fp32.name)
    write_arrays(folder / INDEX, {"passages": small.astype(np.float16)})
    rows = {example.id: row for example, row in zip(examples, small, strict=True)}
    return float(_cosines(dense, np.stack([rows[each.id] for each in few])).mean())


def _compare_steps(
    package: Package, folder: Path, sources: Sequence[Source], reads: tuple[str, ...], progress: Progress
) -> dict[str, float]:
    """Encoders on sources; decoders behind their own encoder, fed with the tokens that fp32 would choose."""
    import numpy as np

    from edgelr.runtime.generation import read_generation

    generation = read_generation(package.folder)
    dense, small = (_Pair(package, place, reads) for place in (package.folder, folder))
    cosines: dict[str, list[NDArray[np.float32]]] = {role: [] for role in _ROLES}
    with progress.bar("comparing with fp32", len(sources)) as advance:
        for source in sources:
            tokens = dense.chosen(source, generation)
            one, other = (pair.outputs(source, tokens) for pair in (dense, small))
            for role in _ROLES:
                _check_finite(other[role], f"{role}.onnx")
                cosines[role].append(_cosines(one[role], other[role]))
            advance()
    return {role: float(np.concatenate(found).mean()) for role, found in cosines.items()}


def _utterances(package: Package) -> Sequence[Utterance]:
    from edgelr.examples import Utterance, spread
    from edgelr.runtime.examples import folder_examples

    return spread(folder_examples(package.folder, Utterance), _COMPARED)


def _compare_letters(package: Package, folder: Path, progress: Progress) -> float:
    """Scores of every position, about their mean, of a model with CTC."""
    import numpy as np

    from edgelr.device.load import load_devices
    from edgelr.device.session import open_session

    device = load_devices()["cpu-1t"]
    fp32 = model_path(package)
    dense, small = (open_session(path, device) for path in (fp32, folder / fp32.name))
    values = sound_sources(package, _utterances(package), package.folder)
    cosines = []
    with progress.bar("comparing with fp32", len(values)) as advance:
        for value in values:
            one, other = (run_graph(session, value)["logits"][0] for session in (dense, small))
            _check_finite(other, fp32.name)
            centered = (scores - scores.mean(axis=1, keepdims=True) for scores in (one, other))
            cosines.append(_cosines(*centered))
            advance()
    return float(np.concatenate(cosines).mean())


class _Pair:
    """An encoder and a decoder, open on one thread."""

    def __init__(self, package: Package, folder: Path, reads: tuple[str, ...]) -> None:
        from edgelr.device.load import load_devices
        from edgelr.device.session import open_session

        device = load_devices()["cpu-1t"]
        files = (folder / package.graphs[role].file for role in _ROLES)
        self._encoder, decoder = (open_session(file, device) for file in files)
        self._decoder = GraphDecoder(self._encoder, decoder, reads)

    def chosen(self, source: Source, generation: Generation) -> list[int]:
        """The first tokens of a greedy output, with the start token."""
        from edgelr.runtime.decode import greedy

        self._decoder.read(source)
        (tokens,) = greedy(self._decoder, 1, generation, _STEPS + len(generation.prompt_ids))
        return [generation.decoder_start_token_id, *tokens[:-1]]

    def outputs(self, source: Source, tokens: Sequence[int]) -> dict[str, NDArray[np.float32]]:
        """The encoder's outputs as one row; a row of scores for each token, about their mean."""
        import numpy as np

        read = run_graph(self._encoder, source)
        self._decoder.read(source)
        self._decoder.start(1)
        scores = np.stack([self._decoder.step(np.array([token]))[0].copy() for token in tokens])
        return {
            "encoder": np.concatenate([array.ravel() for array in read.values()])[None],
            "decoder": scores - scores.mean(axis=1, keepdims=True),  # which changes no probability
        }


def _check_finite(values: NDArray[np.float32], name: str) -> None:
    import numpy as np

    if not np.isfinite(values).all():
        raise QuantizeError(f"{name}: the quantized graph gives values that are not finite")


def _cosines(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float32]:
    import numpy as np

    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / norms, np.float32)
