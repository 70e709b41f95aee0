"""Which scheme each layer gets: the recipe's, unless one of its globs says otherwise."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgelr.errors import QuantizeError
from edgelr.quantize.layers import Layer
from edgelr.recipe.quantize import LayerScheme, Quantize
from edgelr.runtime.layer_names import matches, names_to_match, unwrapped

_NEAR = 3  # names that an error lists


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a layer becomes, and why it is not what all others become; "" where it is."""

    scheme: LayerScheme
    reason: str = ""


Choices = Mapping[str, Choice]
"""By name of the layer."""


BITS: Mapping[LayerScheme, float] = {  # of a weight, with scales
    "fp32": 32,
    "fp16": 16,
    "int8-dynamic": 8,
    "int8-static": 8,
    "a16w8": 8,
    "weight-int8": 9,
    "weight-int4": 5,
}


def choose(layers: Sequence[Layer], settings: Quantize, fastest: Choices | None = None) -> dict[str, Choice]:
    """Choose by the recipe's globs; of those that match a layer, the first counts.

    Args:
        layers: Of one graph.
        settings: The recipe's section.
        fastest: Of the scheme auto, what is chosen for the others.
    """
    found = {}
    for layer in layers:
        glob = next((glob for glob in settings.layers if matches(glob, layer.name)), None)
        if glob is not None:
            found[layer.name] = Choice(scheme=settings.layers[glob], reason=f"quantize.layers: {glob}")
        elif settings.scheme == "auto":
            assert fastest is not None, "the stage has it measured"
            found[layer.name] = fastest[layer.name]
        else:
            found[layer.name] = Choice(scheme=settings.scheme)
    return found


def check_globs(names: Sequence[str], settings: Quantize) -> None:
    """Make sure that every glob means something.

    Args:
        names: Of the layers of all graphs.
        settings: The recipe's section.

    Raises:
        QuantizeError: One matches no layer; names that are near are listed.
    """
    for glob in settings.layers:
        if any(matches(glob, name) for name in names):
            continue
        known = list(dict.fromkeys(each for name in names for each in names_to_match(name)))
        near = difflib.get_close_matches(unwrapped(glob), known, n=_NEAR, cutoff=0.4) or known[:_NEAR]
        raise QuantizeError(
            f"quantize.layers: '{glob}' matches none of the {len(names)} layers of the graph",
            f"names that are near: {', '.join(near)}" if near else "take it out: the graph has no layers",
        )
