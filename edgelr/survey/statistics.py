"""Input statistics of the sites: streaming Gram matrices in fp64, padding left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgelr.errors import DataError, UnsupportedModelError
from edgelr.lowrank.svd import Matrix


@dataclass(kw_only=True)
class Statistics:
    """Sums over the unmasked calibration tokens.

    Attributes:
        grams: Input name -> ``Σ x xᵀ`` ``[in, in]``. Sites that read the same tensor share one.
        inputs: Site -> input name, for every site that ran.
        tokens: Unmasked tokens seen.
        calls: Site -> number of forward calls.
    """

    grams: dict[str, Matrix] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    calls: dict[str, int] = field(default_factory=dict)


@torch.no_grad()  # not inference mode: its tensors have no version, and so would hide changes in place
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
        UnsupportedModelError: Two sites read the same tensor in some calls and not in others.
    """
    statistics = Statistics()
    watcher = _Watcher(statistics)
    handles = [
        site.register_forward_pre_hook(watcher.hook(name), with_kwargs=True) for name, site in sites.items()
    ]
    try:
        for batch in batches:
            watcher.mask = batch["attention_mask"].bool()
            watcher.read.clear()
            run(batch)
            statistics.tokens += int(watcher.mask.sum())
    finally:
        for handle in handles:
            handle.remove()
    for name, owner in statistics.inputs.items():
        if statistics.calls[name] != statistics.calls[owner]:
            raise _inconsistent(name, owner)
    return statistics


class _Watcher:
    """Adds each input tensor once a batch, however many sites read it."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics
        self.mask = torch.empty(0, dtype=torch.bool)
        # Holding the tensors keeps their ids from being used again within the batch. The version is that of
        # the values: a tensor that was changed in place is another input.
        self.read: dict[tuple[int, int], tuple[Tensor, str]] = {}

    def hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def before_forward(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tensor: Tensor = args[0] if args else kwargs["input"]
            statistics = self.statistics
            statistics.calls[name] = statistics.calls.get(name, 0) + 1
            key = (id(tensor), tensor._version)
            owner = self.read.setdefault(key, (tensor, name))[1]
            if statistics.inputs.setdefault(name, owner) != owner:
                raise _inconsistent(name, owner)
            if owner == name:
                self._add(name, tensor)

        return before_forward

    def _add(self, name: str, tensor: Tensor) -> None:
        masked = tensor.shape[:-1] == self.mask.shape
        rows = tensor[self.mask.to(tensor.device)] if masked else tensor.reshape(-1, tensor.shape[-1])
        values = rows.double().cpu().numpy()
        if not np.isfinite(values).all():
            raise DataError(
                f"the input of '{name}' is not finite (NaN or infinity) on the calibration data",
                "look at the calibration texts and at the layers before this one",
            )
        grams = self.statistics.grams
        gram = values.T @ values  # numpy sees the transpose and computes only one triangle
        grams[name] = grams[name] + gram if name in grams else gram


def _inconsistent(name: str, other: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"'{name}' and '{other}' read the same tensor in some calls and different ones in others",
        f"leave one of them dense: compress.exclude: ['{name}']",
    )
