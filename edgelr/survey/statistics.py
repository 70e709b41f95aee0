"""Input statistics of the sites: streaming Gram matrices in fp64, padding left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.errors import DataError
from edgelr.lowrank.svd import Matrix


@dataclass(kw_only=True)
class Statistics:
    """Sums over the unmasked calibration tokens.

    Attributes:
        grams: Input name -> ``Σ x xᵀ`` ``[in, in]``. Sites that read the same tensor share one.
        inputs: Site -> input name.
        tokens: Unmasked tokens seen.
        calls: Site -> number of forward calls.
    """

    grams: dict[str, Matrix] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    calls: dict[str, int] = field(default_factory=dict)


@torch.inference_mode()
def gather(
    sites: Mapping[str, nn.Linear],
    batches: Iterable[Mapping[str, Tensor]],
    run: Callable[[Mapping[str, Tensor]], object],
) -> Statistics:
    """Run the model over the batches and sum up ``x xᵀ`` of every site's input.

    Args:
        sites: The linear layers, by name.
        batches: Each with an ``attention_mask`` ``[batch, tokens]``.
        run: Runs the model on a batch.

    Raises:
        DataError: An input is not finite; the site is named.
    """
    statistics = Statistics()
    watcher = _Watcher(statistics)
    handles = [site.register_forward_pre_hook(watcher.hook(name)) for name, site in sites.items()]
    try:
        for batch in batches:
            watcher.mask = batch["attention_mask"].bool()
            watcher.read.clear()
            run(batch)
            statistics.tokens += int(watcher.mask.sum())
    finally:
        for handle in handles:
            handle.remove()
    return statistics


class _Watcher:
    """Adds each input tensor once a batch, however many sites read it."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics
        self.mask = torch.empty(0, dtype=torch.bool)
        # Holding the tensors keeps their ids from being used again within the batch.
        self.read: dict[int, tuple[Tensor, str]] = {}

    def hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def before_forward(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            self.statistics.calls[name] = self.statistics.calls.get(name, 0) + 1
            tensor = args[0]
            if id(tensor) in self.read:
                self._share(name, self.read[id(tensor)][1])
                return
            self.read[id(tensor)] = (tensor, name)
            self.statistics.inputs.setdefault(name, name)
            self._add(name, tensor)

        return before_forward

    def _share(self, name: str, owner: str) -> None:
        before = self.statistics.inputs.setdefault(name, owner)
        assert before == owner, f"{name} read the input of {before} before and of {owner} now"

    def _add(self, name: str, tensor: Tensor) -> None:
        rows = (
            tensor[self.mask] if tensor.shape[: self.mask.ndim] == self.mask.shape else tensor.flatten(0, -2)
        )
        values = rows.double().cpu().numpy()
        if not np.isfinite(values).all():
            raise DataError(
                f"the input of '{name}' is not finite (NaN or infinity) on the calibration data",
                "look at the calibration texts and at the layers before this one",
            )
        grams = self.statistics.grams
        gram = values.T @ values  # numpy sees the transpose and computes only one triangle
        grams[name] = grams[name] + gram if name in grams else gram
