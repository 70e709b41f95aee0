"""The hooks that watch the sites of a running model, each kind of layer in its own way, and what they sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from edgelr.errors import DataError, UnsupportedModelError
from edgelr.lowrank.conv import Conv, empty_low_rank_conv, reason_against_conv
from edgelr.lowrank.conv_patches import patch_gram
from edgelr.lowrank.kinds import matrix_of
from edgelr.lowrank.statistics import Statistics
from edgelr.lowrank.svd import Matrix

# Curvatures have out² numbers. Beyond this (2 GiB each; only heads over a vocabulary are so wide) the factors
# are chosen without, for the output of the layer itself.
_WIDEST_CURVATURE = 16_384


@dataclass(kw_only=True)
class Sums:
    """What is added up while the model runs.

    Attributes:
        grams: Input name -> ``Σ x xᵀ`` ``[in, in]``. Sites that read the same tensor share one.
        sums: Input name -> ``Σ x`` and the number of tokens, ``[in + 1]``.
        curvatures: Site -> ``Σ g gᵀ`` over gradients at its output, ``[out, out]``.
        outputs: Convolution -> ``Σ y yᵀ`` without the bias, ``[out, out]``.
        columns: Convolution with two axes -> ``Σ x xᵀ`` over columns of patches, ``[in·kh, in·kh]``.
        counts: Embedding -> how often each token came, ``[vocabulary]``.
        heads: Tied embedding -> ``Σ h hᵀ`` of the head's inputs, ``[dim, dim]``.
        inputs: Site -> input name, for every site that ran.
        tokens: Unmasked tokens seen; without masks, rows of the site that had most.
        units: What ``Site.calls`` counts by: unmasked tokens; examples, of batches without a mask.
        calls: Site -> number of forward calls.
        rows: Site -> how many vectors (tokens, output positions) it was multiplied with.
        left: Inputs whose sums, and those of the sites that read them, are left to a later pass; all other
            numbers are of every site.
    """

    grams: dict[str, Matrix] = field(default_factory=dict)
    sums: dict[str, Matrix] = field(default_factory=dict)
    curvatures: dict[str, Matrix] = field(default_factory=dict)
    outputs: dict[str, Matrix] = field(default_factory=dict)
    columns: dict[str, Matrix] = field(default_factory=dict)
    counts: dict[str, Matrix] = field(default_factory=dict)
    heads: dict[str, Matrix] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    units: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)

    def forget(self) -> None:
        """Let go of the sums that are written; what is known of the sites stays."""
        for arrays in (self.grams, self.sums, self.curvatures, self.outputs, self.columns):
            arrays.clear()
        for arrays in (self.counts, self.heads):
            arrays.clear()

    def statistics(self) -> Statistics:
        """What later stages read."""
        return Statistics(
            inputs=self.inputs,
            grams=self.grams,
            sums=self.sums,
            curvatures=self.curvatures,
            outputs=self.outputs,
            columns=self.columns,
            counts=self.counts,
            heads=self.heads,
        )


class Watcher:
    """Adds up what the sites read and return.

    One pass over the data need not take on everything: inputs are taken on in the order they first come,
    until their sums (with those of the sites that read them) would need more memory than the limit.

    Args:
        sums: Where to.
        limit: Bytes; one input is always taken on.
        done: Inputs of earlier passes.
    """

    def __init__(self, sums: Sums, limit: float = math.inf, done: frozenset[str] = frozenset()) -> None:
        self.sums = sums
        self._limit, self._done = limit, done
        self._bytes = 0
        self._sizes: dict[str, tuple[int, int]] = {}  # of a site's input, and of what is its own
        self._weighed: set[str] = set()
        self.masks: tuple[Tensor, ...] = ()
        # Holding the tensors keeps their ids from being used again within the batch. The version is that of
        # the values: a tensor that was changed in place is another input.
        self.read: dict[tuple[int, int], tuple[Tensor, str]] = {}

    def start(self, masks: tuple[Tensor, ...]) -> None:
        """Forget the last batch; ``masks``, ``[batch, tokens]`` each, are those of the next, if any."""
        self.masks = masks
        self.read.clear()

    def watch(
        self, name: str, site: nn.Module, others: Mapping[str, nn.Module], *, curvature: bool
    ) -> list[RemovableHandle]:
        """Register the hooks of a site.

        Args:
            name: The site.
            site: Its module.
            others: More modules with the same weight, by name.
            curvature: Whether to gather gradients at its output.
        """
        modules = list({id(module): module for module in (site, *others.values())}.values())
        alone = len(modules) == 1
        tied = isinstance(site, nn.Embedding) and not all(isinstance(each, nn.Embedding) for each in modules)
        wide = matrix_of(site).shape[0] > _WIDEST_CURVATURE
        self._sizes[name] = _sizes(site, curvature=curvature and not tied and not wide)
        handles = []
        for module in modules:
            before = self._before(name, module, alone=alone, tied=tied)
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            if isinstance(module, Conv):
                handles.append(module.register_forward_hook(self._after_conv(name)))
            if curvature and not tied and not wide:
                handles.append(module.register_forward_hook(self._after(name)))
        return handles

    def _before(
        self, name: str, module: nn.Module, *, alone: bool, tied: bool
    ) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def before_forward(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tensor: Tensor = args[0] if args else next(iter(kwargs.values()))
            self.sums.calls[name] = self.sums.calls.get(name, 0) + 1
            if isinstance(module, nn.Embedding):
                self._add_tokens(name, module, tensor)
            elif isinstance(module, Conv):
                self._add_columns(name, module, tensor)
            elif tied:
                if self._takes(name, name):
                    self._add_gram(self.sums.heads, name, tensor)
            else:
                self._add_input(name, tensor, alone=alone)

        return before_forward

    def _after_conv(self, name: str) -> Callable[[Conv, tuple[Any, ...], Tensor], None]:
        def after_forward(conv: Conv, _: tuple[Any, ...], output: Tensor) -> None:
            if not self._takes(name, name):
                self._count(name, self._positions(conv, output).shape[0])
                return
            values = self._positions(conv, output)
            if conv.bias is not None:
                values = values - conv.bias.detach().double().cpu().numpy()
            _check_finite(values, f"the output of '{name}'")
            self._count(name, len(values))
            _accumulate(self.sums.outputs, name, values.T @ values)

        return after_forward

    def _after(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor | None]:
        def after_forward(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor | None:
            def add(gradient: Tensor) -> None:
                conv = isinstance(module, Conv)
                values = self._positions(module, gradient) if conv else self._rows(gradient)
                _check_finite(values, f"the gradient at the output of '{name}'")
                _accumulate(self.sums.curvatures, name, values.T @ values)

            if not self._takes(name, self.sums.inputs.get(name, name)):
                return None
            # The first layers depend on nothing that has a gradient: their outputs become what has one.
            watched = output if output.requires_grad else output.detach().requires_grad_()
            watched.register_hook(add)  # type: ignore[no-untyped-call]
            return None if watched is output else watched.clone()

        return after_forward

    def _add_input(self, name: str, tensor: Tensor, *, alone: bool) -> None:
        """Each input tensor counts once a batch, however many sites read it."""
        sums = self.sums
        # A module that shares its weight reads several inputs: no other site has the same ones.
        owner = self.read.setdefault((id(tensor), tensor._version), (tensor, name))[1] if alone else name
        if sums.inputs.setdefault(name, owner) != owner:
            raise inconsistent(name, owner)
        if self._takes(name, owner) and owner == name:
            values = self._add_gram(sums.grams, name, tensor)
            _accumulate(sums.sums, name, np.append(values.sum(axis=0), len(values)))
        self._count(name, self._unmasked(tensor[..., 0], tensor.shape[:-1]).numel(), owner)

    def _add_gram(self, grams: dict[str, Matrix], name: str, tensor: Tensor) -> Matrix:
        values = self._rows(tensor)
        _check_finite(values, f"the input of '{name}'")
        _accumulate(grams, name, values.T @ values)  # numpy computes only one triangle
        return values

    def _add_tokens(self, name: str, module: nn.Embedding, ids: Tensor) -> None:
        seen = self._unmasked(ids, ids.shape).flatten().cpu().numpy()
        self._count(name, len(seen))
        if not self._takes(name, name):
            return
        counts = np.bincount(seen, minlength=module.num_embeddings)
        _accumulate(self.sums.counts, name, counts.astype(np.float64))

    def _add_columns(self, name: str, conv: Conv, tensor: Tensor) -> None:
        if reason_against_conv(conv, "spatial") is not None or not self._takes(name, name):
            return
        vertical = empty_low_rank_conv(conv, 1, "spatial").down
        images = tensor.detach() if tensor.ndim == len(conv.kernel_size) + 2 else tensor.detach()[None]
        # A column is read once for each position of the kernel along the width, and skipped by the stride.
        gram = patch_gram(vertical, images) / conv.stride[-1]
        _check_finite(gram, f"the input of '{name}'")
        _accumulate(self.sums.columns, name, gram)

    def _takes(self, name: str, owner: str) -> bool:
        """Whether this pass sums up what a site reads and returns; ``owner`` is its input."""
        if owner in self._done:
            return False
        if name not in self._weighed:
            self._weighed.add(name)
            of_input, own = self._sizes[name]
            size = own + of_input if name == owner else own
            if name == owner and self._bytes and self._bytes + size > self._limit:
                self.sums.left.add(name)
            elif owner not in self.sums.left:
                self._bytes += size
        return owner not in self.sums.left

    def _count(self, name: str, rows: int, owner: str | None = None) -> None:
        self.sums.inputs.setdefault(name, owner or name)
        self.sums.rows[name] = self.sums.rows.get(name, 0) + rows

    def _positions(self, conv: nn.Module, output: Tensor) -> Matrix:
        """Output positions of a convolution as rows, ``[positions, out]``."""
        axes = len(conv.kernel_size)  # type: ignore[arg-type]
        return self._rows(output.movedim(-1 - axes, -1))

    def _rows(self, tensor: Tensor) -> Matrix:
        """The unmasked tokens as rows, fp64."""
        rows = self._unmasked(tensor.detach(), tensor.shape[:-1]).reshape(-1, tensor.shape[-1])
        return rows.double().cpu().numpy()

    def _unmasked(self, tensor: Tensor, positions: tuple[int, ...]) -> Tensor:
        """What a mask lets through whose positions these are; all, where there is none."""
        for mask in self.masks:
            if positions == mask.shape:
                return tensor[mask.to(tensor.device)]
        return tensor


def inconsistent(name: str, other: str) -> UnsupportedModelError:
    """The error for two sites that cannot share statistics and cannot do without."""
    return UnsupportedModelError(
        f"'{name}' and '{other}' read the same tensor in some calls and different ones in others",
        f"leave one of them dense: compress.exclude: ['{name}']",
    )


def _accumulate(sums: dict[str, Matrix], name: str, values: Matrix) -> None:
    if name in sums:
        sums[name] += values  # in place: they may be large
    else:
        sums[name] = values


def _sizes(site: nn.Module, *, curvature: bool) -> tuple[int, int]:
    """Bytes of the sums over a site's input, and of those that are the site's own."""
    out, in_ = matrix_of(site).shape
    own = 8 * out**2 if curvature else 0
    if isinstance(site, nn.Embedding):
        return 8 * (site.num_embeddings + site.embedding_dim**2), own
    if isinstance(site, Conv):
        return 8 * (in_ // site.kernel_size[-1]) ** 2, own + 8 * out**2
    return 8 * in_**2, own


def _check_finite(values: Matrix, what: str) -> None:
    if not np.isfinite(values).all():
        raise DataError(
            f"{what} is not finite (NaN or infinity) on the calibration data",
            "look at the calibration texts and at the layers before this one",
        )
