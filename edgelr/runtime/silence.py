"""Whether it is silence that a model of speech wrote words for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgelr.runtime.decode import SourceDecoder
from edgelr.runtime.generation import Generation
from edgelr.runtime.logits import changes_of, log_softmax

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Nobody speaks where Whisper thinks so and is not sure of its words either: the numbers of its authors.
_NO_SPEECH = 0.6
_UNSURE = -1.0


class Listening:
    """A decoder that notes how likely it is that nobody speaks.

    Args:
        decoder: Does the work; it has read one sound.
        generation: How it generates, and which token stands for silence, if one does.

    Source:
        Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision (2022), section 4.5.
    """

    def __init__(self, decoder: SourceDecoder, generation: Generation) -> None:
        self._decoder, self._generation = decoder, generation
        self.reorder = decoder.reorder

    def start(self, rows: int) -> None:
        """As of the decoder."""
        self._decoder.start(rows)
        self._begun, self._no_speech = False, 0.0

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """As of the decoder."""
        import numpy as np

        scores, silence = self._decoder.step(tokens), self._generation.no_speech_token_id
        if not self._begun and silence is not None:
            self._no_speech = float(np.exp(log_softmax(scores)[0, silence]))
        self._begun = True
        return scores

    def nobody_speaks(self, tokens: Sequence[int]) -> bool:
        """Whether nobody does; the decoder is run once more where that is likely.

        Args:
            tokens: What was written, with the prompt.
        """
        return self._no_speech > _NO_SPEECH and sureness(self._decoder, self._generation, tokens) < _UNSURE


def sureness(decoder: SourceDecoder, generation: Generation, tokens: Sequence[int]) -> float:
    """Mean log-probability of a transcript's tokens after the prompt, among those that may be written.

    Every one is looked at again: a search keeps the scores of its beams, not those of a transcript.

    Args:
        decoder: It has read the sound.
        generation: Which tokens may be written, and the prompt.
        tokens: The transcript, with the prompt.
    """
    import numpy as np

    changes = changes_of(generation, normalized=False)
    history = np.array([[generation.decoder_start_token_id, *tokens]], np.int64)
    prompt, summed = len(generation.prompt_ids), 0.0
    decoder.start(1)
    for length, token in enumerate(tokens, 1):
        scores = decoder.step(history[:, length - 1])
        if length > prompt:
            for change in changes:
                change(scores, history[:, :length])
            summed += float(log_softmax(scores)[0, token])
    return summed / max(1, len(tokens) - prompt)
