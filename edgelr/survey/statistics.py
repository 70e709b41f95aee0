"""Statistics of the sites' inputs and curvatures at their outputs: streaming fp64 sums, padding left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from edgelr.survey.watch import Sums, Watcher, inconsistent

MASK = "attention_mask"
MASKS = (MASK, "decoder_attention_mask")  # of the two sides of an encoder-decoder; never of the same shape


def gather(
    sites: Mapping[str, nn.Module],
    batches: Iterable[Mapping[str, Tensor]],
    run: Callable[[Mapping[str, Tensor]], Tensor],
    *,
    curvature: bool,
    shared: Mapping[str, Mapping[str, nn.Module]] | None = None,
    limit: float = math.inf,
    done: frozenset[str] = frozenset(),
) -> Sums:
    """Run the model over the batches and sum up what is known of every site.

    Args:
        sites: The layers, by name.
        batches: Each with an ``attention_mask`` ``[batch, tokens]``, and maybe one of its decoder's tokens;
            without any, all positions count.
        run: Runs the model on a batch; returns the scalar whose gradients make the curvature.
        curvature: Whether to gather gradients at the sites' outputs too; takes about three times as long.
        shared: Site -> other modules with its weight.
        limit: Bytes that the sums may take; what does not fit is left to another pass.
        done: Inputs that earlier passes took on.

    Raises:
        DataError: An input is not finite; the site is named.
        UnsupportedModelError: Two sites read the same tensor in some calls and not in others.
    """
    sums = Sums()
    watcher = Watcher(sums, limit, done)
    handles: list[RemovableHandle] = []
    wanting = [each for site in sites.values() for each in site.parameters() if each.requires_grad]
    try:
        for parameter in wanting:
            parameter.requires_grad_(False)  # or the gradients would be left in it
        for name, site in sites.items():
            handles += watcher.watch(name, site, (shared or {}).get(name, {}), curvature=curvature)
        for batch in batches:
            mask = batch[MASK].bool() if MASK in batch else None
            watcher.start(tuple(batch[name].bool() for name in MASKS if name in batch))
            # Not inference mode: its tensors have no version, and so would hide changes in place.
            with torch.set_grad_enabled(curvature):
                probed = run(batch)
            if curvature and probed.requires_grad:
                probed.backward()  # type: ignore[no-untyped-call]
            sums.tokens += 0 if mask is None else int(mask.sum())
            sums.units += len(next(iter(batch.values()))) if mask is None else int(mask.sum())
    finally:
        for handle in handles:
            handle.remove()
        for parameter in wanting:
            parameter.requires_grad_(True)
    sums.tokens = sums.tokens or max(sums.rows.values(), default=0)
    for name, owner in sums.inputs.items():
        if sums.calls[name] != sums.calls[owner]:
            raise inconsistent(name, owner)
    return sums
