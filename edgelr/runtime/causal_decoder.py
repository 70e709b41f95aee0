"""A causal language model as an ONNX graph, behind the interface that the search drives.

The contract, with layers i from 0: ``decoder`` takes ``input_ids`` int64 ``[1, tokens]``, ``logits_to_keep``
int64 ``[kept]`` (which of these tokens are scored), ``past_key_i`` and ``past_value_i`` float32 ``[1, heads,
past, size]``, and the counters of ``edgelr.runtime.caches``; it gives ``logits`` float32 ``[1, kept,
vocabulary]``, ``present_key_i`` and ``present_value_i``. Prompt and single tokens are the same graph.
Past may have room for more tokens than there are, and be present as well: the same buffer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgelr.runtime.caches import COUNTERS, BufferCaches, value_of
from edgelr.runtime.decoder_graph import check_names, run_bound, sizes_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

DECODER = "decoder"
KEPT = "logits_to_keep"
_CALL = 128  # most tokens that are scored in one call: logits are large


class CausalDecoder:
    """Goes on with one text at a time.

    Args:
        session: Of the graph.

    Attributes:
        vocabulary: Size of the logits.

    Raises:
        DamagedArtifactError: The graph does not follow the contract.
    """

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        inputs = {entry.name: list(entry.shape) for entry in session.get_inputs()}
        outputs = {entry.name: list(entry.shape) for entry in session.get_outputs()}
        layers = sum(name.startswith("past_key_") for name in inputs)
        past, present = (
            [f"{name}_{part}_{layer}" for layer in range(layers) for part in ("key", "value")]
            for name in ("past", "present")
        )
        check_names(DECODER, "inputs", inputs, ["input_ids", KEPT, *COUNTERS, *past], len(COUNTERS) + 4)
        check_names(DECODER, "outputs", outputs, ["logits", *present])
        self.vocabulary = sizes_of(outputs, "logits", 3, (2,))[0]
        self._caches = BufferCaches(past, present, [sizes_of(inputs, name, 4, (1, 3)) for name in past])

    def start(self, rows: int = 1) -> None:
        """Begin a text without tokens; ``rows`` is 1."""
        import numpy as np

        assert rows == 1, "the graph reads one text at a time"
        self._caches.start(1)
        # What is the same for every single token is bound once.
        self._token, self._scores = np.zeros((1, 1), np.int64), np.empty((1, 1, self.vocabulary), np.float32)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input("input_ids", value_of(self._token))
        self._binding.bind_ortvalue_input(KEPT, value_of(np.zeros(1, np.int64)))
        self._binding.bind_ortvalue_output("logits", value_of(self._scores))

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Append a token, or those of a prompt.

        Args:
            tokens: ``[1]``, or ``[1, tokens]``, at least one.

        Returns:
            Logits of the next token, ``[1, vocabulary]``; they are good until the next step.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on the graph.
        """
        import numpy as np

        if tokens.size > 1:
            return self._append(tokens.reshape(-1), np.array([tokens.size - 1]))
        self._token[0] = tokens
        self._caches.bind(self._binding)
        run_bound(DECODER, self._session, self._binding, "input_ids [1, 1]")
        self._caches.keep(self._binding)
        scores: NDArray[np.float32] = self._scores[0]
        return scores

    def scores(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Append tokens, and score what comes after each.

        Args:
            tokens: ``[tokens]``, at least one.

        Returns:
            Logits ``[tokens, vocabulary]``.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on the graph.
        """
        import numpy as np

        parts = (tokens[start : start + _CALL] for start in range(0, len(tokens), _CALL))
        return np.concatenate([self._append(part, np.arange(len(part))) for part in parts])

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Nothing: there is one row."""

    def _append(self, tokens: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits ``[kept, vocabulary]`` of some of the tokens that are appended."""
        import numpy as np

        scores = np.empty((1, len(kept), self.vocabulary), np.float32)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("input_ids", value_of(tokens[None]))
        binding.bind_ortvalue_input(KEPT, value_of(kept))
        binding.bind_ortvalue_output("logits", value_of(scores))
        self._caches.bind(binding, len(tokens))
        run_bound(DECODER, self._session, binding, f"input_ids [1, {len(tokens)}]")
        self._caches.keep(binding, len(tokens))
        found: NDArray[np.float32] = scores[0]
        return found


def text_feeds(inputs: dict[str, list[Any]], tokens: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """What the graph is fed with to read a text at once and to score every token.

    Args:
        inputs: Name -> shape of the graph's inputs.
        tokens: ``[tokens]``, at least one.
    """
    import numpy as np

    from edgelr.runtime.caches import counters_of

    caches = {
        name: np.zeros((1, shape[1], 0, shape[3]), np.float32)
        for name, shape in inputs.items()
        if name.startswith("past_") and name not in COUNTERS
    }
    counters = counters_of(1, 0, len(tokens))
    return {"input_ids": tokens[None], KEPT: np.arange(len(tokens)), **counters, **caches}
