"""What a site is: which weight matrices of a torch module can be factored, and why others cannot."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from edgelr.artifacts import LeftDense
from edgelr.errors import UnsupportedModelError


@dataclass(frozen=True, kw_only=True)
class Found:
    """The sites of a model by name, in module order, and the matrices that are left as they are."""

    sites: dict[str, nn.Linear]
    skipped: tuple[LeftDense, ...]


def find_sites(model: nn.Module, include: Sequence[str], exclude: Sequence[str]) -> Found:
    """List the linear layers that ``include`` and ``exclude`` (globs over dotted names) select.

    A weight that several modules share is left as it is: two factors in one of them would come on top of the
    matrix that the others still need.

    Args:
        model: The dense model.
        include: A layer must fit one of these.
        exclude: A layer must fit none of these.

    Raises:
        UnsupportedModelError: None is left.
    """
    matrices = {
        name: module
        for name, module in model.named_modules()
        if isinstance(weight := getattr(module, "weight", None), Tensor) and weight.ndim >= 2
    }
    users: dict[int, list[str]] = defaultdict(list)
    for name, module in matrices.items():
        if isinstance(module.weight, nn.Parameter):
            users[id(module.weight)].append(name)
    sites: dict[str, nn.Linear] = {}
    skipped: list[LeftDense] = []
    for name, module in matrices.items():
        others = [other for other in users[id(module.weight)] if other != name]
        reason = _reason_to_skip(name, module, others, include, exclude)
        if reason is None and isinstance(module, nn.Linear):
            sites[name] = module
        else:
            skipped.append(LeftDense(name=name, reason=reason or "not a linear layer"))
    if not sites:
        raise _nothing_left(skipped, include, exclude)
    return Found(sites=sites, skipped=tuple(skipped))


def _reason_to_skip(
    name: str, module: nn.Module, others: Sequence[str], include: Sequence[str], exclude: Sequence[str]
) -> str | None:
    if not isinstance(module, nn.Linear):
        return f"{type(module).__name__} is not a linear layer"
    if type(module).forward is not nn.Linear.forward:
        return f"{type(module).__name__} computes more than a linear layer"
    if not any(fnmatch.fnmatchcase(name, glob) for glob in include):
        return "not in compress.include"
    for glob in exclude:
        if fnmatch.fnmatchcase(name, glob):
            return f"excluded by '{glob}'"
    return f"shares its weight with '{others[0]}'" if others else None


def _nothing_left(
    skipped: Sequence[LeftDense], include: Sequence[str], exclude: Sequence[str]
) -> UnsupportedModelError:
    if not skipped:
        return UnsupportedModelError(
            "the model has no linear layer to factor", "it has no weight matrix at all; give another model"
        )
    globs = f"include: {', '.join(include)}; exclude: {', '.join(exclude) or 'nothing'}"
    # A layer that the globs ruled out says more than an embedding that no glob could let in.
    ruled_out = [entry for entry in skipped if entry.reason.startswith(("not in compress", "excluded by"))]
    example = (ruled_out or skipped)[0]
    return UnsupportedModelError(
        f"the model has no linear layer to factor ({globs})",
        f"check compress.include and compress.exclude; '{example.name}' was left out: {example.reason}",
    )
