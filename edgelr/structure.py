"""What of a model can be reduced, and what is done to it: the words that survey, plan and compress share.

A *site* is one weight matrix. A *group* is sites that can be reduced in another way than each alone. A
*reduction* is the choice that a plan makes for a site or a group. All three are the same for every form of
model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

GroupForm = Literal["joint", "spatial", "query-key", "value-output"]
Form = Literal["low-rank", "joint", "spatial", "query-key", "value-output"]
Kind = Literal["linear", "transposed-linear", "conv", "embedding", "tied-embedding"]


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """How much the model's output changes when energy is dropped, measured at one or several points.

    Attributes:
        points: (dropped energy, change of the output), the energy rising.
    """

    points: tuple[tuple[float, float], ...]

    def change(self, dropped: float) -> float:
        """Expected change of the output.

        Between two points the change follows the power law through them; beyond the outer ones it is
        proportional to the energy.
        """
        if dropped <= 0 or not self.points:
            return 0.0
        low = max((point for point in self.points if point[0] <= dropped), default=self.points[0])
        high = min((point for point in self.points if point[0] >= dropped), default=self.points[-1])
        if low[0] == high[0]:
            return low[1] * dropped / low[0]
        slope = math.log(high[1] / low[1]) / math.log(high[0] / low[0])
        return float(low[1] * (dropped / low[0]) ** slope)

    @property
    def slope(self) -> float:
        """Change per unit of energy, at the middle point."""
        if not self.points:
            return 0.0
        energy, change = self.points[len(self.points) // 2]
        return change / energy


@dataclass(frozen=True, kw_only=True)
class Site:
    """One weight matrix that can be factored.

    Attributes:
        name: Dotted module path in the dense model.
        kind: What computes with the matrix. ``transposed-linear`` is a linear that stores ``[in, out]``
            (GPT-2's ``Conv1D``), ``tied-embedding`` an embedding whose table is also the matrix of a head.
        out: Rows of the matrix ``[out, in]``: of an embedding its dimensions, of a convolution its channels.
        in_: Columns: of an embedding the vocabulary, of a convolution ``in · kh · kw``.
        inputs: Name of the statistics of its input; sites that read the same tensor share them.
        calls: How often the matrix is multiplied per token (1 for every linear of an encoder); per example
            where the data has no tokens.
        energy: Error of dropping the whole matrix, in the units of its spectrum.
        sensitivity: What dropping costs: see ``Sensitivity``.
        shared: Other modules with the same weight; they get the same factors.
        centered: Whether its factors are fitted to inputs about their mean, which goes into the bias.
        pivotable: Whether its outputs or its inputs may be reordered, so that its factors can be pivoted.
        kernel: Of a convolution, ``(k,)`` or ``(kh, kw)``.
        stride: Of a convolution, one for each axis of the kernel.
    """

    name: str
    kind: Kind
    out: int
    in_: int
    inputs: str
    calls: int
    energy: float
    sensitivity: Sensitivity
    shared: tuple[str, ...] = ()
    centered: bool = False
    pivotable: bool = False
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Group:
    """Sites that can be reduced in another way than each alone, most often together.

    Attributes:
        form: ``joint``: they read the same input and may share ``down``. ``query-key`` and ``value-output``:
            the two layers around the channels of attention heads, which may have fewer channels.
            ``spatial``: one convolution, which may become one along each axis.
        sites: Their names, in that order.
        heads: Number of attention heads; 1 for other forms.
        head_size: Channels of a head; 0 for other forms.
        energy: As of a site; 0 for ``joint``, whose members have their own.
        sensitivity: What dropping channels costs; of ``joint``, whose members have their own, nothing.
    """

    form: GroupForm
    sites: tuple[str, ...]
    heads: int
    head_size: int
    energy: float
    sensitivity: Sensitivity

    @property
    def name(self) -> str:
        """What its spectrum is called."""
        return f"{self.form}:{self.sites[0]}"


@dataclass(frozen=True, kw_only=True)
class LeftDense:
    """A matrix that stays as it is, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """What is done to one matrix, or to several at once.

    Attributes:
        form: ``low-rank``: two factors. Others as in ``Group``.
        sites: Whose matrices.
        rank: The inner dimension of the factors; of attention heads, the channels that each keeps.
        heads: Number of attention heads; 1 for factors.
        shared: Other modules with the weight of the one site; they get the same factors.
    """

    form: Form
    sites: tuple[str, ...]
    rank: int
    heads: int = 1
    shared: tuple[str, ...] = ()

    @property
    def spectrum(self) -> str:
        """What its spectrum is called: by the site, or as of ``Group``."""
        return self.sites[0] if self.form == "low-rank" else f"{self.form}:{self.sites[0]}"
