"""A model with its data, and the passes of a survey over them, whose statistics never fill the memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.statistics import statistics_file
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress
from edgelr.runtime.memory import free_bytes
from edgelr.survey.sites import Found
from edgelr.survey.statistics import gather
from edgelr.survey.watch import Sums

Batch = Mapping[str, Tensor]

# What statistics may take in memory: this, or this share of the model's own bytes (of the free memory, where
# that is less: such a model stays in its files), whichever is more. Gram matrices and curvatures grow with
# the squares of the layers' sides: those of all layers of a model of a billion parameters in bf16 would take
# four to seven times its own memory. What does not fit waits for another pass. A share, since the number of
# passes must not grow with the number of layers.
LIMIT_BYTES = 2**30
LIMIT_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model and how to run it.

    Attributes:
        model: Dense; as before when the survey is done.
        batches: Calibration data. Where one has an ``attention_mask`` ``[batch, tokens]``, positions that it
            masks do not count.
        few: Batches to measure sensitivities on.
        run: (model, batch) -> output, ``[batch, ...]``.
        distance: (output, reference) -> how far each example is from the reference, ``[batch]``.
        probe: output -> a scalar whose squared gradients average to the distance's curvature.
        heads: Glob of projections around attention heads that may become smaller.
        unit: What costs are counted by, in words: what a mask counts, or else an example.
    """

    model: nn.Module
    batches: Sequence[Batch]
    few: Sequence[Batch]
    run: Callable[[nn.Module, Batch], Tensor]
    distance: Callable[[Tensor, Tensor], Tensor]
    probe: Callable[[Tensor], Tensor]
    heads: str = "*"
    unit: str = "token"


def check_weights(model: nn.Module) -> None:
    """Make sure that there are weights.

    Raises:
        UnsupportedModelError: A parameter or buffer is on the meta device; it is named.
    """
    tensor: Tensor
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_meta:
            raise UnsupportedModelError(
                f"'{name}' is on the meta device: it has a shape, and no values",
                "load the model's weights first",
            )


def gather_to_file(
    subject: Subject,
    found: Found,
    compress: Compress,
    folder: Path,
    progress: Progress,
    limit: float | None = None,
) -> Sums:
    """Gather statistics in as many passes over the data as the limit asks for, and write them.

    Args:
        subject: The model and its data.
        found: Its sites.
        compress: How factors are chosen.
        folder: Where ``statistics.npz`` is written.
        progress: Where to show how far it is.
        limit: Bytes that statistics may take in memory; by the model's size and the free memory when None.
            What one input and the sites that read it need is always gathered together. Results do not depend
            on the limit.

    Returns:
        What is known of all sites but the statistics themselves.

    Raises:
        DataError: Activations are not finite.
        UnsupportedModelError: Two sites read the same tensor in some calls and not in others.
    """
    if limit is None:
        size = sum(parameter.nbytes for parameter in subject.model.parameters())
        limit = max(LIMIT_BYTES, LIMIT_SHARE * min(size, free_bytes()))
    done: frozenset[str] = frozenset()
    with statistics_file(folder) as append:
        for number in itertools.count(1):
            sums = _gather(subject, found, compress, progress, number, limit, done)
            append(sums.statistics())
            sums.forget()
            if not sums.left:
                return sums
            done = frozenset(sums.inputs.values()) - sums.left
    raise AssertionError  # every pass takes on at least one input


def _gather(
    subject: Subject,
    found: Found,
    compress: Compress,
    progress: Progress,
    number: int,
    limit: float,
    done: frozenset[str],
) -> Sums:
    label = "gathering statistics" if number == 1 else f"gathering statistics, pass {number}"
    seeds = itertools.count()
    with progress.bar(label, len(subject.batches)) as advance:

        def run(batch: Batch) -> Tensor:
            torch.manual_seed(next(seeds))  # a batch has the same random directions in every pass
            output = subject.run(subject.model, batch)
            advance()
            return subject.probe(output)

        curvature = compress.factors == "kronecker"
        return gather(
            found.sites,
            subject.batches,
            run,
            curvature=curvature,
            shared=found.shared,
            limit=limit,
            done=done,
        )
