"""What a site is: which weight matrices of a torch module can be factored, and why others cannot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from edgelr.lowrank.kinds import kind_of, reason_against
from edgelr.structure import Kind, LeftDense
from edgelr.survey.selection import nothing_left, ruled_out


@dataclass(frozen=True, kw_only=True)
class Found:
    """The sites of a model and the matrices that are left as they are.

    Attributes:
        sites: Layers by name, in module order.
        shared: Site -> other modules with its weight, by name; only sites that have some.
        skipped: All other matrices.
    """

    sites: dict[str, nn.Module]
    shared: dict[str, dict[str, nn.Module]]
    skipped: tuple[LeftDense, ...]

    def kind(self, name: str) -> Kind:
        """What computes with a site's matrix."""
        kind = kind_of(self.sites[name])
        assert kind is not None
        others = self.shared.get(name, {}).values()
        tied = kind == "embedding" and not all(isinstance(other, nn.Embedding) for other in others)
        return "tied-embedding" if tied else kind


def find_sites(
    model: nn.Module, include: Sequence[str], exclude: Sequence[str], *, vocabulary: bool = False
) -> Found:
    """List the layers that ``include`` and ``exclude`` (globs over dotted names) select.

    Modules that share a weight are one site where all of them can be factored alike: linears, or an embedding
    and its head. Elsewhere the weight is left as it is: two factors in one of the modules would come on top
    of the matrix that the others still need.

    Args:
        model: The dense model.
        include: A layer must fit one of these.
        exclude: A layer must fit none of these.
        vocabulary: Whether embeddings are factored.

    Raises:
        UnsupportedModelError: None is left.
    """
    sites: dict[str, nn.Module] = {}
    shared: dict[str, dict[str, nn.Module]] = {}
    skipped: list[LeftDense] = []
    for modules in _by_weight(model):
        reasons = {
            name: _reason_to_skip(name, module, include, exclude, vocabulary=vocabulary)
            for name, module in modules.items()
        }
        if any(reasons.values()) or not _alike(modules):
            skipped += _left(reasons)
            continue
        embeddings = [name for name, module in modules.items() if isinstance(module, nn.Embedding)]
        name = [*embeddings, *modules][0]
        sites[name] = modules[name]
        if len(modules) > 1:
            shared[name] = {other: module for other, module in modules.items() if other != name}
    skipped += _inside(model)
    if not sites:
        raise nothing_left(skipped, include, exclude)
    return Found(sites=sites, shared=shared, skipped=tuple(skipped))


def _by_weight(model: nn.Module) -> list[dict[str, nn.Module]]:
    """Modules with a matrix by name, those with the same weight together.

    A module may be in two places. A place that is reached on two ways (a layer inside a block that the model
    runs twice) is one place.
    """
    groups: dict[int, dict[str, nn.Module]] = defaultdict(dict)
    places: set[tuple[int, str]] = set()
    for name, module in model.named_modules(remove_duplicate=False):
        parent, _, leaf = name.rpartition(".")
        place = (id(model.get_submodule(parent)), leaf)
        weight = getattr(module, "weight", None)
        if name and place not in places and isinstance(weight, Tensor) and weight.ndim >= 2:
            places.add(place)
            # A weight that is computed anew whenever it is asked for has no identity.
            groups[id(weight if isinstance(weight, nn.Parameter) else module)][name] = module
    return list(groups.values())


def _inside(model: nn.Module) -> list[LeftDense]:
    """Matrices that are not the weight of a layer: of recurrent layers, say, which have several."""
    left = []
    for name, module in model.named_modules():
        if isinstance(module, ParametrizationList):
            continue  # what a weight is computed from, which is listed
        kind = type(module).__name__
        recurrent = isinstance(module, nn.RNNBase | nn.RNNCellBase)
        reason = f"{kind} multiplies by it step by step, inside" if recurrent else f"a matrix inside {kind}"
        for own, parameter in module.named_parameters(recurse=False):
            if parameter.ndim >= 2 and own != "weight":
                left.append(LeftDense(name=f"{name}.{own}".removeprefix("."), reason=reason))
    return left


def _alike(modules: Mapping[str, nn.Module]) -> bool:
    """Whether the factors of one module serve the others: a convolution's stride, say, is its own."""
    kinds = {kind_of(module) for module in modules.values()}
    one = len({id(module) for module in modules.values()}) == 1
    return one or kinds in ({"linear"}, {"transposed-linear"}, {"embedding"}, {"embedding", "linear"})


def _left(reasons: Mapping[str, str | None]) -> list[LeftDense]:
    """The modules of one weight, each with its own reason or with one that it shares the weight with."""
    left = []
    for name, reason in reasons.items():
        other = next((other for other in reasons if other != name), "")
        left.append(LeftDense(name=name, reason=reason or f"shares its weight with '{other}'"))
    return left


def _reason_to_skip(
    name: str, module: nn.Module, include: Sequence[str], exclude: Sequence[str], *, vocabulary: bool
) -> str | None:
    if (reason := reason_against(module)) is not None:
        return reason
    if isinstance(module, nn.Embedding) and not vocabulary:
        return "an embedding: compress.vocabulary is off"
    return ruled_out(name, include, exclude)
