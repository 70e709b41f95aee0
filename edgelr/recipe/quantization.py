"""What the section quantize has to agree with: what is tuned for it, and what is timed with it."""

from __future__ import annotations

from collections.abc import Iterator

from edgelr.recipe.variants import places
from edgelr.recipe.yaml_file import YamlFile
from edgelr.recipe.yaml_tree import Fault, KeyPath

_AWARE: KeyPath = ("finetune", "quantization_aware")
_SCHEME: KeyPath = ("quantize", "scheme")
_ACTIVATIONS: KeyPath = ("quantize", "activations")
_UNKNOWN = {
    "auto": "is chosen when the tuning is over: name a scheme",
    "fp16": "rounds too little to be tuned for",
}


def check_quantization(file: YamlFile) -> Iterator[Fault]:
    """Find everything that quantization contradicts.

    Args:
        file: The recipe as read.
    """
    scheme = file.at(_SCHEME)
    if scheme == "auto" and isinstance(file.at(("compress", "keep", "latency")), dict):
        message = "kernels are timed with one scheme, and auto is chosen when ranks are known: name a scheme"
        yield file.fault(_SCHEME, message)
    if file.at(("finetune", "activations")) == "relu":
        for key in places(file, _ACTIVATIONS):
            if file.at(key) == "relu":
                yield file.fault(key, "finetune.activations puts ReLU there already: take one of them out")
    if file.at(_AWARE) is not True:
        return
    if not isinstance(file.at(("quantize",)), dict):
        yield file.fault(_AWARE, "there is nothing to be aware of: add a section quantize, or take it out")
    elif isinstance(scheme, str) and scheme in _UNKNOWN:
        yield file.fault(_AWARE, f"quantize.scheme {scheme} {_UNKNOWN[scheme]}, or take it out")
    if file.at(("export", "pivot")) is True:
        yield file.fault(_AWARE, "export.pivot stores other factors than those that are tuned: take one out")
