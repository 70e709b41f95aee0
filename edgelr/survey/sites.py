"""What a site is: which weight matrices of a torch module can be factored, and why others cannot."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from edgelr.artifacts import LeftDense
from edgelr.errors import UnsupportedModelError


@dataclass(frozen=True, kw_only=True)
class Found:
    """The sites of a model by name, in module order, and the matrices that are left as they are."""

    sites: dict[str, nn.Linear]
    skipped: tuple[LeftDense, ...]


def find_sites(model: nn.Module, include: Sequence[str], exclude: Sequence[str]) -> Found:
    """List the linear layers that ``include`` and ``exclude`` (globs over dotted names) select.

    Raises:
        UnsupportedModelError: None is left.
    """
    sites: dict[str, nn.Linear] = {}
    skipped: list[LeftDense] = []
    seen: dict[int, str] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim < 2:
            continue
        reason = _reason_to_skip(name, module, seen, include, exclude)
        if reason is None and isinstance(module, nn.Linear):
            sites[name] = module
            seen[id(weight)] = name
        else:
            skipped.append(LeftDense(name=name, reason=reason or "not a linear layer"))
    if not sites:
        raise UnsupportedModelError(
            "the model has no linear layer to factor"
            + (
                f" (include: {', '.join(include)}; exclude: {', '.join(exclude) or 'nothing'})"
                if skipped
                else ""
            ),
            "check compress.include and compress.exclude; "
            + (
                f"layers are named like '{skipped[0].name}'"
                if skipped
                else "the model has no weight matrix at all"
            ),
        )
    return Found(sites=sites, skipped=tuple(skipped))


def _reason_to_skip(
    name: str, module: nn.Module, seen: dict[int, str], include: Sequence[str], exclude: Sequence[str]
) -> str | None:
    if not isinstance(module, nn.Linear):
        return f"{type(module).__name__} is not a linear layer"
    if not any(fnmatch.fnmatchcase(name, glob) for glob in include):
        return "not in compress.include"
    for glob in exclude:
        if fnmatch.fnmatchcase(name, glob):
            return f"excluded by '{glob}'"
    if id(module.weight) in seen:
        return f"shares its weight with '{seen[id(module.weight)]}'"
    return None
