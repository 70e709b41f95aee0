"""Quantization simulated in the last part of the tuning: layers compute with rounded weights and inputs.

What is tuned stays in full precision, and is what is saved. A step sees it rounded and learns what to change
through the rounding, so that the weights come to lie where rounding costs little. The inner space of two
factors is turned before it is rounded, exactly as ``quantize`` turns it.

It is exact where a graph multiplies by the matrices of the model. A decoder's graph packs projections side by
side; block-wise schemes and a scale for each output are the same there, the turned space between their
factors is another one. Convolutions, whose weights are only stored as int8, are not simulated, nor is the
tanh form of GELU, which differs from the exact one by less than a step of 8 bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.finetune.rounding import straight_through
from edgelr.finetune.schemes import Schemes
from edgelr.lowrank.embedding import LowRankEmbedding, LowRankHead, scale_of
from edgelr.lowrank.kinds import kind_of, reason_against
from edgelr.lowrank.layers import LowRankLinear
from edgelr.lowrank.rotate import turned
from edgelr.recipe.quantize import Quantize

Forward = Callable[[Tensor], Tensor]

Made = TypeVar("Made")


@contextmanager
def simulated(model: nn.Module, settings: Quantize) -> Iterator[None]:
    """Let a model compute as its quantized graph would, until the end of the block.

    Args:
        model: Its weights are not changed.
        settings: The recipe's section quantize, with one scheme or globs; fp16 is not simulated.
    """
    simulation = _Simulation(model, settings)
    replaced = []
    for path, module in model.named_modules():
        forward = simulation.forward(path.removesuffix(".narrow"), module)
        if forward is not None:
            module.forward = forward
            replaced.append(module)
    try:
        yield
    finally:
        for module in replaced:
            del module.forward  # what its class says is seen again


def rounded_weights(model: nn.Module, settings: Quantize) -> dict[str, Tensor]:
    """What each product of a simulated model multiplies by, and each of its tables has.

    Args:
        model: Any model.
        settings: The recipe's section quantize.

    Returns:
        Path of the module, of factors with ``.down`` and ``.up`` behind it -> ``[out, in]`` or
        ``[tokens, dim]``.
    """
    simulation = _Simulation(model, settings)
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        found |= simulation.weights(path.removesuffix(".narrow"), module)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Factors:
    """Factors as they are multiplied by, and what turned them; None where they are not turned."""

    turn: Tensor | None
    back: Tensor | None
    down: Tensor
    up: Tensor


class _Simulation:
    """Which weights of a model are rounded, and how.

    Args:
        model: Any model.
        settings: The recipe's section quantize.
    """

    def __init__(self, model: nn.Module, settings: Quantize) -> None:
        modules = list(model.modules())
        heads = [each.table for each in modules if isinstance(each, LowRankHead)]
        linear = [each.weight for each in modules if isinstance(each, nn.Linear)]
        multiplied = frozenset(id(weight) for weight in (*heads, *linear))
        self._schemes = Schemes(settings=settings, multiplied=multiplied)
        # What several layers multiply by is not turned: see lowrank/rotate.py.
        self._users = Counter(id(each.up) for each in modules if isinstance(each, LowRankLinear))

    def forward(self, path: str, module: nn.Module) -> Forward | None:
        """What a module computes when it is quantized; None for all that stays as it is."""
        if isinstance(module, LowRankLinear):
            return self._factored(path, module)
        if isinstance(module, LowRankEmbedding):
            return self._factored_table(path, module)
        if isinstance(module, LowRankHead):
            return self._factored_head(path, module)
        if reason_against(module) is not None or kind_of(module) == "conv":
            return None
        if isinstance(module, nn.Embedding):
            return self._table(path, module)
        return self._linear(path, module)

    def weights(self, path: str, module: nn.Module) -> dict[str, Tensor]:
        """By path, see ``rounded_weights``."""
        if isinstance(module, LowRankLinear):
            found = self._factors(path, module)
            return {f"{path}.down": found.down, f"{path}.up": found.up}
        if isinstance(module, LowRankEmbedding):
            return {path: self._schemes.matrix(path, module.up)}
        if isinstance(module, LowRankHead):
            return {f"{path}.down": self._schemes.matrix(f"{path}.down", module.up.T)}
        if reason_against(module) is not None:  # no layer, or one with more to it
            return {}
        if isinstance(module, nn.Embedding):
            return {path: self._schemes.table(path, module.weight)}
        return {} if kind_of(module) == "conv" else {path: self._schemes.matrix(path, _matrix(module))}

    def _linear(self, path: str, module: nn.Module) -> Forward:
        weight, bias = cast(Tensor, module.weight), cast("Tensor | None", module.bias)
        inputs = self._schemes.inputs(path)
        rounded = _known(lambda: self._schemes.matrix(path, _matrix(module)), weight)

        def forward(input: Tensor) -> Tensor:
            return nn.functional.linear(inputs(input), straight_through(_matrix(module), rounded()), bias)

        return forward

    def _factored(self, path: str, module: LowRankLinear) -> Forward:
        outer, inner = self._schemes.inputs(f"{path}.down"), self._schemes.inputs(f"{path}.up")
        factors = _known(lambda: self._factors(path, module), module.down, module.up)

        def forward(input: Tensor) -> Tensor:
            found = factors()
            down: Tensor = module.down
            up: Tensor = module.up
            if found.turn is not None and found.back is not None:
                down, up = found.turn.T @ down, up @ found.back.T
            thin = nn.functional.linear(outer(input), straight_through(down, found.down))
            return nn.functional.linear(inner(thin), straight_through(up, found.up), module.bias)

        return forward

    def _factors(self, path: str, module: LowRankLinear) -> _Factors:
        down, up = module.down.detach(), module.up.detach()
        turn = back = None
        if self._users[id(module.up)] == 1:
            # In double precision and by NumPy, as quantize does it: or the last bit would differ.
            first, second = (np.ascontiguousarray(each.cpu().double().numpy().T) for each in (down, up))
            turning, returning = turned(first)
            down, up = _tensor((first @ turning).T, down), _tensor((returning @ second).T, up)
            turn, back = _tensor(turning, down), _tensor(returning, up)
        return _Factors(
            turn=turn,
            back=back,
            down=self._schemes.matrix(f"{path}.down", down),
            up=self._schemes.matrix(f"{path}.up", up),
        )

    def _table(self, path: str, module: nn.Embedding) -> Forward:
        scale = scale_of(module) or 1.0
        rounded = _known(lambda: self._schemes.table(path, module.weight), module.weight)

        def forward(input: Tensor) -> Tensor:
            table = straight_through(module.weight, rounded())
            return nn.functional.embedding(input, table, module.padding_idx) * scale

        return forward

    def _factored_table(self, path: str, module: LowRankEmbedding) -> Forward:
        inputs = self._schemes.inputs(path)
        table = _known(lambda: self._schemes.table(path, module.table), module.table)
        up = _known(lambda: self._schemes.matrix(path, module.up), module.up)

        def forward(input: Tensor) -> Tensor:
            rows = nn.functional.embedding(input, straight_through(module.table, table()), module.padding_idx)
            return nn.functional.linear(inputs(rows), straight_through(module.up, up())) * module.scale

        return forward

    def _factored_head(self, path: str, module: LowRankHead) -> Forward:
        outer, inner = self._schemes.inputs(f"{path}.down"), self._schemes.inputs(f"{path}.up")
        up = _known(lambda: self._schemes.matrix(f"{path}.down", module.up.T), module.up)
        table = _known(lambda: self._schemes.table(f"{path}.up", module.table), module.table)

        def forward(input: Tensor) -> Tensor:
            thin = nn.functional.linear(outer(input), straight_through(module.up.T, up()))
            return nn.functional.linear(inner(thin), straight_through(module.table, table()), module.bias)

        return forward


def _known(make: Callable[[], Made], *weights: Tensor) -> Callable[[], Made]:
    """What is made of weights, once for as long as they do not change."""
    known: list[tuple[list[int], Made]] = []

    def value() -> Made:
        versions = [weight._version for weight in weights]
        if not known or known[0][0] != versions:
            # A validation may ask first, and what is made in its inference mode could not be tuned through.
            with torch.inference_mode(False), torch.no_grad():
                known[:] = [(versions, make())]
        return known[0][1]

    return value


def _matrix(module: nn.Module) -> Tensor:
    """The weight of a linear layer as ``[out, in]``, with its gradient."""
    weight = cast(Tensor, module.weight)
    return weight.T if kind_of(module) == "transposed-linear" else weight


def _tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.float64]], like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(like)
