"""Keys and values of the tokens so far, for one step of a decoder after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import IOBinding, OrtValue

# How a decoder is told how many tokens its buffers hold; called as the operators that read it call it.
PAST, PASTS, TOTAL = "past_length", "seqlens_k", "total_sequence_length"
COUNTERS = (PAST, PASTS, TOTAL)

_ROOM = 32  # tokens that a new buffer takes


class GrowingCaches:
    """Tensors that are one token longer after each step: the outputs of one are the inputs of the next.

    Args:
        past: Names of the inputs.
        present: Names of the outputs, in the same order; the only ones but for the first of all.
        sizes: Heads and size of a head of each.
    """

    def __init__(self, past: Sequence[str], present: Sequence[str], sizes: Sequence[list[int]]) -> None:
        self._past, self._present, self._sizes = past, present, sizes

    def start(self, rows: int) -> None:
        """Begin with rows that have no tokens."""
        import numpy as np

        self._values = [value_of(np.zeros((rows, heads, 0, size), np.float32)) for heads, size in self._sizes]

    def bind(self, binding: IOBinding, tokens: int = 1) -> None:
        """Bind inputs and outputs of the next step, which takes as many tokens."""
        for name, value in zip(self._past, self._values, strict=True):
            binding.bind_ortvalue_input(name, value)
        for name in self._present:
            binding.bind_output(name)

    def keep(self, binding: IOBinding, tokens: int = 1) -> None:
        """Take what a step has given."""
        self._values = binding.get_outputs()[1:]

    def feeds(self) -> dict[str, NDArray[Any]]:
        """The inputs of the next step, as they are now."""
        return {name: value.numpy() for name, value in zip(self._past, self._values, strict=True)}

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Go on with these rows of the last step."""
        self._values = [value_of(value.numpy()[rows]) for value in self._values]


class BufferCaches:
    """Buffers with room for more tokens, which a step writes its own into; they are bound once.

    Args:
        past: Names of the inputs.
        present: Names of the outputs, in the same order.
        sizes: Heads and size of a head of each.
    """

    def __init__(self, past: Sequence[str], present: Sequence[str], sizes: Sequence[list[int]]) -> None:
        self._past, self._present, self._sizes = past, present, sizes
        self._bound: IOBinding | None = None
        self._buffers: list[NDArray[np.float32]] = []

    def start(self, rows: int) -> None:
        """Begin with rows that have no tokens; buffers for as many rows are used again."""
        import numpy as np

        self._length = 0
        if self._buffers and len(self._buffers[0]) == rows:
            self._count()
        else:
            self._take([np.zeros((rows, heads, _ROOM, size), np.float32) for heads, size in self._sizes])

    def bind(self, binding: IOBinding, tokens: int = 1) -> None:
        """Bind buffers that have room for as many tokens more, unless they are bound already."""
        if self._length + tokens > self._buffers[0].shape[2]:
            self._grow(tokens)
        if tokens != 1:  # which is what is counted with, unless something else is known
            self._count(tokens)
        if self._bound is binding:
            return
        for past, present, value in zip(self._past, self._present, self._values, strict=True):
            binding.bind_ortvalue_input(past, value)
            binding.bind_ortvalue_output(present, value)
        for name, counter in self._counters.items():
            binding.bind_ortvalue_input(name, value_of(counter))
        self._bound = binding

    def keep(self, binding: IOBinding, tokens: int = 1) -> None:
        """Count the tokens that a step has written."""
        self._length += tokens
        if tokens != 1:
            self._count()
            return
        for counter in self._counters.values():  # without new arrays, which take longer than adding
            counter[:] += 1

    def feeds(self) -> dict[str, NDArray[Any]]:
        """The inputs of the next step, copied: it writes into them."""
        given = {name: buffer.copy() for name, buffer in zip(self._past, self._buffers, strict=True)}
        return given | {name: counter.copy() for name, counter in self._counters.items()}

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Go on with these rows of the last step."""
        if len(rows) != len(self._buffers[0]):
            self._take([each[rows] for each in self._buffers])
            return
        for each in self._buffers:
            each[:, :, : self._length] = each[rows, :, : self._length]

    def _grow(self, tokens: int) -> None:
        """Go on with twice the room, or with as much more as is needed."""
        import numpy as np

        room = self._buffers[0].shape[2]
        more = max(room, _ROOM * math.ceil((self._length + tokens - room) / _ROOM))
        padding = ((0, 0), (0, 0), (0, more), (0, 0))
        self._take([np.pad(each, padding) for each in self._buffers])

    def _count(self, tokens: int = 1) -> None:
        rows = len(self._buffers[0])
        for name, counts in counters_of(rows, self._length, tokens).items():
            self._counters[name][:] = counts  # in place: they are bound

    def _take(self, buffers: list[NDArray[np.float32]]) -> None:
        """Go on with other buffers."""
        self._buffers = buffers
        self._values = [value_of(each) for each in buffers]
        self._counters = counters_of(len(buffers[0]), self._length)
        self._bound = None


def counters_of(rows: int, past: int, tokens: int = 1) -> dict[str, NDArray[np.int64] | NDArray[np.int32]]:
    """The inputs that say so.

    Args:
        rows: Sequences; all of them have as many tokens.
        past: Tokens before those of this step.
        tokens: Those of this step.

    Returns:
        ``past_length`` int64 ``[1]``, ``seqlens_k`` int32 ``[rows]``, which is the index of the last token,
        and ``total_sequence_length`` int32 ``[1]``.
    """
    import numpy as np

    return {
        PAST: np.array([past], np.int64),
        PASTS: np.full(rows, past + tokens - 1, np.int32),
        TOTAL: np.array([past + tokens], np.int32),
    }


def value_of(array: NDArray[np.int64] | NDArray[np.int32] | NDArray[np.float32]) -> OrtValue:
    """An array as ONNX Runtime's, which shares its memory."""
    import numpy as np
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
