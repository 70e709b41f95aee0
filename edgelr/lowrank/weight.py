"""A weight as a layer stores it, and the matrix in it that is factored: the same for every form of model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar, assert_never, cast

import numpy as np
from numpy.typing import NDArray

from edgelr.lowrank.conv_cost import Form
from edgelr.lowrank.svd import Matrix

Array = TypeVar("Array")


@dataclass(frozen=True, kw_only=True, eq=False)
class Weight:
    """One weight.

    Attributes:
        kind: What computes with it.
        values: ``[out, in]``; of a convolution ``[out, in, *kernel]``; of an embedding its table
            ``[vocabulary, dim]``. Any floating type.
    """

    kind: Literal["linear", "conv", "embedding"]
    values: NDArray[np.floating[Any]]

    @property
    def kernel(self) -> tuple[int, ...]:
        """Of a convolution; of others ``()``."""
        return self.values.shape[2:]

    def matrix(self, form: Form = "channel") -> Matrix:
        """The matrix ``[out, in]`` that is factored, in fp64.

        Args:
            form: Of convolutions.
        """
        match self.kind:
            case "linear":
                found = self.values
            case "embedding":
                found = self.values.T
            case "conv":
                found = conv_matrix(self.values, form)
            case _:
                assert_never(self.kind)
        return np.asarray(found, np.float64)


def conv_matrix(weight: Array, form: Form) -> Array:
    """The matrix of a kernel that a form factors.

    The spatial one is the transpose of the papers' ``[in·kh, out·kw]``, so that here too ``down`` is what is
    applied first.

    Args:
        weight: ``[out, in, *kernel]``, of NumPy or torch.
        form: ``channel`` or ``spatial``.

    Returns:
        ``[out, in·kh·kw]`` or ``[out·kw, in·kh]``.
    """
    array: Any = weight  # both have the methods that are needed here, under the same names
    match form:
        case "channel":
            return cast(Array, array.reshape(len(array), -1))
        case "spatial":
            out, in_, height, width = array.shape
            turned = array.swapaxes(1, 3).swapaxes(2, 3)
            return cast(Array, turned.reshape(out * width, in_ * height))
        case _:
            assert_never(form)
