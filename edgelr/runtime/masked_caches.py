"""Caches of a decoder for hardware with fixed shapes: buffers of one length, under a mask.

A step reads the buffers and gives the keys and values of its own token, which are written into them here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgelr.runtime.caches import PAST, value_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import IOBinding

PAST_MASK = "past_mask"
"""The input that says which tokens a buffer holds."""
MASKED_COUNTERS = (PAST, PAST_MASK)
"""What a decoder with such caches also takes: the position of its token, int64 ``[1]``, and the mask, int64
``[batch, past]``, 1 where a token is."""

_ROOM = 32  # tokens that the smallest buffer takes


def room_for(tokens: int) -> int:
    """Length of the buffers that hold so many tokens: few lengths, as each is a graph on an NPU.

    Args:
        tokens: Any number of them.

    Returns:
        32 times a power of 2.
    """
    room = _ROOM
    while room < tokens:
        room *= 2
    return room


class MaskedCaches:
    """Buffers with room for more tokens; what a step gives is written behind those that are there.

    Args:
        past: Names of the inputs.
        present: Names of the outputs, in the same order.
        sizes: Heads and size of a head of each.
    """

    def __init__(self, past: Sequence[str], present: Sequence[str], sizes: Sequence[list[int]]) -> None:
        self._past, self._present, self._sizes = past, present, sizes
        self._bound: IOBinding | None = None

    def start(self, rows: int) -> None:
        """Begin with rows that have no tokens."""
        import numpy as np

        self._length = 0
        # Nothing but numbers may be in a buffer: NaN times a weight of 0 is NaN.
        self._take([np.zeros((rows, heads, _ROOM, size), np.float32) for heads, size in self._sizes])

    def bind(self, binding: IOBinding, tokens: int = 1) -> None:
        """Bind buffers that have room for one token more, unless they are bound already."""
        import numpy as np

        room = self._buffers[0].shape[2]
        if self._length == room:
            more = ((0, 0), (0, 0), (0, room_for(room + 1) - room), (0, 0))
            self._take([np.pad(each, more) for each in self._buffers])
        if self._bound is binding:
            return
        for name, buffer in zip(self._past, self._buffers, strict=True):
            binding.bind_ortvalue_input(name, value_of(buffer))
        for name, counter in zip(MASKED_COUNTERS, (self._position, self._mask), strict=True):
            binding.bind_ortvalue_input(name, value_of(counter))
        for name, given in zip(self._present, self._given, strict=True):
            binding.bind_ortvalue_output(name, value_of(given))
        self._bound = binding

    def keep(self, binding: IOBinding, tokens: int = 1) -> None:
        """Write what a step has given into the buffers."""
        for buffer, given in zip(self._buffers, self._given, strict=True):
            buffer[:, :, self._length] = given[:, :, 0]
        self._length += 1
        self._count()

    def feeds(self) -> dict[str, NDArray[Any]]:
        """The inputs of the next step, copied: they change."""
        given = {name: buffer.copy() for name, buffer in zip(self._past, self._buffers, strict=True)}
        return given | {PAST: self._position.copy(), PAST_MASK: self._mask.copy()}

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Go on with these rows of the last step."""
        if len(rows) != len(self._buffers[0]):
            self._take([each[rows] for each in self._buffers])
            return
        for each in self._buffers:
            each[:, :, : self._length] = each[rows, :, : self._length]

    def _count(self) -> None:
        self._position[:] = self._length  # in place: they are bound
        self._mask[:, : self._length] = 1

    def _take(self, buffers: list[NDArray[np.float32]]) -> None:
        """Go on with other buffers."""
        import numpy as np

        self._buffers = buffers
        self._given = [np.zeros((*each.shape[:2], 1, each.shape[3]), np.float32) for each in buffers]
        self._position = np.zeros(1, np.int64)
        self._mask = np.zeros((len(buffers[0]), buffers[0].shape[2]), np.int64)
        self._bound = None
        self._count()
