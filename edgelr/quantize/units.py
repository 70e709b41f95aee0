"""What accuracy control keeps or does not: layers that read one matrix, together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgelr.quantize.choice import Choice, Choices
from edgelr.quantize.control import Unit
from edgelr.quantize.error_list import LayerError
from edgelr.quantize.graphs import Prepared
from edgelr.quantize.layers import Layer
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.layer_names import matches


def units_of(
    graphs: Mapping[str, Prepared],
    choices: Mapping[str, Choices],
    errors: Mapping[str, Sequence[LayerError]],
    settings: Quantize,
) -> list[Unit]:
    """The layers that may be kept: those with the recipe's scheme, or whose scheme auto has chosen.

    Args:
        graphs: By role.
        choices: By role.
        errors: By role, what each layer loses alone.
        settings: The recipe's section.
    """
    change = {(role, each.layer): each.output_change for role, found in errors.items() for each in found}
    matrices: dict[tuple[str, str], list[tuple[str, Layer]]] = {}
    for role, graph in graphs.items():
        for layer in graph.layers:
            if _may_be_kept(layer, choices[role][layer.name], settings):
                matrices.setdefault((role, layer.matrix), []).append((role, layer))
    return [
        Unit(
            layers=tuple((role, layer.name) for role, layer in members),
            numbers=members[0][1].numbers,
            scheme=choices[role][members[0][1].name].scheme,
            change=sum(change.get((role, layer.name)) or 0.0 for role, layer in members),
        )
        for (role, _), members in matrices.items()
    ]


def _may_be_kept(layer: Layer, choice: Choice, settings: Quantize) -> bool:
    if settings.scheme == "auto":
        return not any(matches(glob, layer.name) for glob in settings.layers)
    return choice.scheme == settings.scheme
