"""What the section variants has to agree with: names of folders, schemes, and where its keys stand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgelr.recipe.yaml_file import YamlFile
from edgelr.recipe.yaml_tree import Fault, KeyPath

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
# Other packages of a report, and other folders of a package.
_TAKEN = ("candidate", "dense-fp32", "dense-int8", "arrays", "audio", "ort", "qnn")


def check_variants(file: YamlFile) -> Iterator[Fault]:
    """Find everything that a variant cannot be.

    Args:
        file: The recipe as read.
    """
    for name in _names(file):
        if _NAME.fullmatch(name) is None:
            message = "expected a name (a folder: lower-case letters, digits, '_' and '-')"
            yield file.fault(("variants", name), message)
        elif name in _TAKEN:
            yield file.fault(("variants", name), "is what something else is called: take another name")
        key: KeyPath = ("variants", name, "quantize", "scheme")
        if file.at(key) == "auto":
            yield file.fault(key, "auto is measured for the recipe's own package only: name a scheme")


def places(file: YamlFile, key: KeyPath) -> tuple[KeyPath, ...]:
    """Where a key may stand: those of export and quantize in every variant, too.

    Args:
        file: The recipe as read.
        key: As of the recipe's own sections.
    """
    if key[0] not in ("export", "quantize"):
        return (key,)
    return (key, *(("variants", name, *key) for name in _names(file)))


def _names(file: YamlFile) -> list[str]:
    variants = file.at(("variants",))
    return [str(name) for name in variants] if isinstance(variants, dict) else []
