"""An encoder and a decoder as ONNX graphs, behind the interface that the search drives.

The contract, with layers i from 0; tokens and masks are int64, all else is float32:

- ``encoder`` takes ``input_ids`` and ``attention_mask`` ``[batch, source]`` of texts, or of speech
  ``input_features`` ``[batch, mels, frames]`` or ``input_values`` ``[batch, samples]``, and gives
  ``cross_key_i`` and ``cross_value_i`` ``[batch, heads, source, size]``.
- ``decoder`` takes ``input_ids`` ``[batch, 1]``, the encoder's ``attention_mask`` where that has one and its
  outputs, ``past_key_i`` and ``past_value_i`` ``[batch, heads, past, size]``, where past is 0 at first. It
  gives ``logits`` ``[batch, 1, vocabulary]``, ``present_key_i`` and ``present_value_i`` ``[batch, heads,
  past + 1, size]``.
- A decoder that writes into its caches also takes the three counters of ``edgelr.runtime.caches``.
  Its past may then have room for more tokens than there are, and be present as well: the same buffer.
- A decoder for fixed shapes takes the two of ``edgelr.runtime.masked_caches`` instead. Its past has room,
  too, and what it gives as present is of its own token, ``[batch, heads, 1, size]``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.runtime.caches import COUNTERS, BufferCaches, GrowingCaches, value_of
from edgelr.runtime.graph import run_errors
from edgelr.runtime.masked_caches import MASKED_COUNTERS, PAST_MASK, MaskedCaches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession, IOBinding, OrtValue

AGAIN = "export the model again"
MASK = "attention_mask"
TEXT = ("input_ids", MASK)  # what an encoder of texts reads
SPEECH = ("input_features",)
WAVEFORM = ("input_values",)


def heard_by(inputs: Iterable[str]) -> tuple[str, ...]:
    """What an encoder of speech reads: ``WAVEFORM`` where it has such an input, else ``SPEECH``."""
    return WAVEFORM if WAVEFORM[0] in inputs else SPEECH


class GraphDecoder:
    """Decodes one batch of sources after another.

    What the encoder gave is bound once, and caches stay where they are or go from a step's outputs to the
    next one's inputs; nothing is copied but the tokens and, where beams change places, the rows that did.

    Args:
        encoder: Session of the encoder.
        decoder: Session of the decoder.
        reads: Inputs of the encoder.

    Attributes:
        vocabulary: Size of the logits.

    Raises:
        DamagedArtifactError: The graphs do not follow the contract.
    """

    def __init__(
        self, encoder: InferenceSession, decoder: InferenceSession, reads: tuple[str, ...] = TEXT
    ) -> None:
        self._encoder, self._decoder, self._masked = encoder, decoder, MASK in reads
        inputs = {entry.name: list(entry.shape) for entry in decoder.get_inputs()}
        outputs = {entry.name: list(entry.shape) for entry in decoder.get_outputs()}
        layers = sum(name.startswith("past_key_") for name in inputs)
        past, present, self._cross = (
            [f"{name}_{part}_{layer}" for layer in range(layers) for part in ("key", "value")]
            for name in ("past", "present", "cross")
        )
        kind, counters = _caches_of(inputs)
        tokens = ["input_ids", *([MASK] if self._masked else ())]
        check_names("encoder", "inputs", [entry.name for entry in encoder.get_inputs()], list(reads), 1)
        check_names("encoder", "outputs", [entry.name for entry in encoder.get_outputs()], self._cross)
        check_names("decoder", "inputs", inputs, [*tokens, *past, *self._cross, *counters])
        check_names("decoder", "outputs", outputs, ["logits", *present])
        self.vocabulary = sizes_of(outputs, "logits", 3, (2,))[0]
        self._caches = kind(past, present, [sizes_of(inputs, name, 4, (1, 3)) for name in past])
        self._rows = 0

    def read(self, source: Mapping[str, NDArray[Any]]) -> None:
        """Run the encoder on a batch, to be decoded next.

        Args:
            source: What the encoder reads; a mask is 0 where a text is padded, 1 elsewhere.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on the graph.
        """
        binding = self._encoder.io_binding()
        for name, array in source.items():
            binding.bind_ortvalue_input(name, value_of(array))
        for name in self._cross:
            binding.bind_output(name)
        first, array = next(iter(source.items()))
        run_bound("encoder", self._encoder, binding, f"{first} {list(array.shape)}")
        self._sources = binding.get_outputs()
        self._mask = source.get(MASK)

    def start(self, rows: int) -> None:
        """Begin anew with one empty row for each text of the batch that was read."""
        import numpy as np

        self._bind_rows(np.arange(rows), self._sources)
        self._caches.start(rows)

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Append a token to every row.

        Args:
            tokens: ``[rows]``.

        Returns:
            Logits of the next token, ``[rows, vocabulary]``; they are good until the next step.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on the graph.
        """
        binding = self._binding
        self._tokens[:, 0] = tokens
        self._caches.bind(binding)
        run_bound("decoder", self._decoder, binding, f"input_ids {list(self._tokens.shape)}")
        self._caches.keep(binding)
        return self._logits

    def feeds(self, tokens: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The decoder's inputs for the step that these tokens would take, by name.

        Args:
            tokens: ``[rows]``.
        """
        sources = zip(self._cross, self._sources, strict=True)
        given = {name: source.numpy()[self._texts] for name, source in sources}
        masked = {} if self._mask is None else {MASK: self._mask[self._texts]}
        return {"input_ids": tokens[:, None], **masked, **given, **self._caches.feeds()}

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Go on with these rows of the last step; a row may come several times, or not at all."""
        import numpy as np

        if np.array_equal(rows, np.arange(self._rows)):
            return
        self._caches.reorder(rows)
        texts = self._texts[rows]
        if not np.array_equal(texts, self._texts):
            self._bind_rows(texts, [value_of(source.numpy()[texts]) for source in self._sources])

    def _bind_rows(self, texts: NDArray[np.int64], sources: list[OrtValue]) -> None:
        """Bind what stays the same from step to step, for rows of these texts of the batch."""
        self._texts = texts
        if len(texts) != self._rows:
            self._bind_new(len(texts))
        if self._mask is not None:
            self._binding.bind_ortvalue_input(MASK, value_of(self._mask[texts]))
        for name, source in zip(self._cross, sources, strict=True):
            self._binding.bind_ortvalue_input(name, source)

    def _bind_new(self, rows: int) -> None:
        """Begin a new binding: the outputs of another number of rows have another size."""
        import numpy as np

        self._rows = rows
        self._tokens = np.zeros((rows, 1), np.int64)
        logits = np.empty((rows, 1, self.vocabulary), np.float32)
        self._logits = logits[:, 0]
        self._binding = self._decoder.io_binding()
        self._binding.bind_ortvalue_input("input_ids", value_of(self._tokens))
        # Before all other outputs, which come after it in their order then.
        self._binding.bind_ortvalue_output("logits", value_of(logits))


def _caches_of(
    inputs: Collection[str],
) -> tuple[type[GrowingCaches | BufferCaches | MaskedCaches], tuple[str, ...]]:
    """What keeps the tokens so far, and the inputs that say how many there are."""
    if PAST_MASK in inputs:
        return MaskedCaches, MASKED_COUNTERS
    return (BufferCaches, COUNTERS) if COUNTERS[0] in inputs else (GrowingCaches, ())


def check_names(role: str, what: str, found: Collection[str], wanted: list[str], fewest: int = 2) -> None:
    """Check that a graph takes or gives what it should.

    Args:
        role: Of the graph.
        what: ``inputs`` or ``outputs``.
        found: Their names.
        wanted: What they should be.
        fewest: How many there are at least.

    Raises:
        DamagedArtifactError: They are others.
    """
    names = set(found)
    if names != set(wanted) or len(wanted) < fewest:
        missing, more = sorted(set(wanted) - names), sorted(names - set(wanted))
        raise DamagedArtifactError(
            f"the {what} of the graph {role!r} are not those that it should have: "
            f"missing {', '.join(missing) or 'none'}, unknown {', '.join(more) or 'none'}",
            AGAIN,
        )


def sizes_of(shapes: Mapping[str, list[int | str]], name: str, rank: int, axes: tuple[int, ...]) -> list[int]:
    """Fixed sizes of a tensor of the decoder.

    Args:
        shapes: By name.
        name: Of the tensor.
        rank: How many axes it has.
        axes: Whose sizes are wanted.

    Raises:
        DamagedArtifactError: It has other axes, or one of these sizes is open.
    """
    shape = shapes[name]
    sizes = [shape[axis] for axis in axes if len(shape) == rank]
    if len(sizes) != len(axes) or not all(isinstance(size, int) for size in sizes):
        raise DamagedArtifactError(
            f"the graph 'decoder' has {name} {shape}, whose sizes at {list(axes)} must be numbers", AGAIN
        )
    return [int(size) for size in sizes]


def run_bound(role: str, session: InferenceSession, binding: IOBinding, given: str) -> None:
    """Run a graph with what is bound.

    Args:
        role: Of the graph.
        session: It, open.
        binding: Inputs and outputs.
        given: What an error says of these.

    Raises:
        UnsupportedModelError: ONNX Runtime fails on it.
    """
    try:
        session.run_with_iobinding(binding)
    except run_errors() as error:
        raise UnsupportedModelError(
            f"ONNX Runtime fails on the graph {role!r} with {given}: {error}",
            "validate the package on this device",
        ) from error
