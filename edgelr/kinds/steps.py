"""Packages that write token by token: what their encoder and decoder are fed with, and compared on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.artifacts import Package
from edgelr.kinds.cosines import cosines
from edgelr.runtime.decoder_graph import GraphDecoder
from edgelr.runtime.graph import run_graph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgelr.progress import Progress
    from edgelr.runtime.generation import Generation

    Source = Mapping[str, NDArray[Any]]

_STEPS = 8  # every one has the caches of all layers with it
_ROLES = ("encoder", "decoder")
SOURCES = 16  # to calibrate on: a source is many calls of the decoder


def step_feeds(
    package: Package, sources: Sequence[Source], reads: tuple[str, ...]
) -> dict[str, list[Source]]:
    """The sources, and the first steps that the decoder takes on each.

    Args:
        package: In fp32. Its decoder is fed with what its own encoder gives, and with its own tokens.
        sources: What the encoder is fed with, a call an entry.
        reads: Names of what the decoder reads of a source.

    Returns:
        By role.
    """
    import numpy as np

    from edgelr.runtime.generation import read_generation

    generation = read_generation(package.folder)
    decoder = _Pair(package, package.folder, reads).decoder
    found: dict[str, list[Source]] = {"encoder": list(sources), "decoder": []}
    for source in sources:
        decoder.read(source)
        decoder.start(1)
        token = np.array([generation.decoder_start_token_id], np.int64)
        told = list(generation.prompt_ids)
        for step in range(_STEPS + len(told)):
            found["decoder"].append(decoder.feeds(token))
            chosen = decoder.step(token).argmax(axis=1)
            token = np.array([told[step]], np.int64) if step < len(told) else chosen
    return found


def compare_steps(
    package: Package, folder: Path, sources: Sequence[Source], reads: tuple[str, ...], progress: Progress
) -> dict[str, float]:
    """Encoders on sources; decoders behind their own encoder, fed with the tokens that fp32 would choose.

    Args:
        package: In fp32.
        folder: Where the quantized graphs are.
        sources: What the encoder is fed with, a call an entry.
        reads: Names of what the decoder reads of a source.
        progress: Where to show how far it is.

    Returns:
        Role -> mean cosine.

    Raises:
        QuantizeError: An output is not finite.
    """
    import numpy as np

    from edgelr.runtime.generation import read_generation

    generation = read_generation(package.folder)
    dense, small = (_Pair(package, place, reads) for place in (package.folder, folder))
    found: dict[str, list[NDArray[np.float32]]] = {role: [] for role in _ROLES}
    with progress.bar("comparing with fp32", len(sources)) as advance:
        for source in sources:
            tokens = dense.chosen(source, generation)
            one, other = (pair.outputs(source, tokens) for pair in (dense, small))
            for role in _ROLES:
                found[role].append(cosines(one[role], other[role], f"{role}.onnx"))
            advance()
    return {role: float(np.concatenate(values).mean()) for role, values in found.items()}


class _Pair:
    """An encoder and a decoder, open on one thread."""

    def __init__(self, package: Package, folder: Path, reads: tuple[str, ...]) -> None:
        from edgelr.device.load import load_devices
        from edgelr.device.session import open_session

        device = load_devices()["cpu-1t"]
        files = (folder / package.graphs[role].file for role in _ROLES)
        self._encoder, graph = (open_session(file, device) for file in files)
        self.decoder = GraphDecoder(self._encoder, graph, reads)

    def chosen(self, source: Source, generation: Generation) -> list[int]:
        """The first tokens of a greedy output, with the start token."""
        from edgelr.runtime.decode import greedy

        self.decoder.read(source)
        (tokens,) = greedy(self.decoder, 1, generation, _STEPS + len(generation.prompt_ids))
        return [generation.decoder_start_token_id, *tokens[:-1]]

    def outputs(self, source: Source, tokens: Sequence[int]) -> dict[str, NDArray[np.float32]]:
        """The encoder's outputs as one row; a row of scores for each token, about their mean."""
        import numpy as np

        read = run_graph(self._encoder, source)
        self.decoder.read(source)
        self.decoder.start(1)
        scores = np.stack([self.decoder.step(np.array([token]))[0].copy() for token in tokens])
        return {
            "encoder": np.concatenate([array.ravel() for array in read.values()])[None],
            "decoder": scores - scores.mean(axis=1, keepdims=True),  # which changes no probability
        }
