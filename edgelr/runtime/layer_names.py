"""What a person can call the layers of a graph: the paths of the torch modules that they came from.

An exporter numbers its nodes (``node_MatMul_32``), and constants that it turned have lost their parameter's
name. What it notes about each node still says which module the node is of.
"""

from __future__ import annotations

import ast
import fnmatch
from collections.abc import Sequence

SCOPES = "pkg.torch.onnx.name_scopes"  # metadata of a node: every module around it, and the call itself

# Attributes that wrap a whole model. Whether there is one depends on who wraps it: names and globs are both
# taken without.
_WRAPPERS = ("model", "transformer")
# What torch's older exporter ends a node's name with: /encoder/layer.0/query/MatMul.
_OPERATORS = ("MatMul", "Gemm", "Gather")


def module_path(scopes: str) -> str:
    """The module that a node is of.

    Args:
        scopes: A list of texts, as torch's exporter writes it.

    Returns:
        Its path without wrappers; "" when it says nothing.
    """
    try:
        listed = ast.literal_eval(scopes)
    except (ValueError, SyntaxError):
        return ""
    paths = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
    return unwrapped(paths[-2]) if len(paths) > 1 else ""


def unwrapped(path: str) -> str:
    """A path, or a glob of paths, without the attributes that wrap the whole model."""
    parts = path.split(".")
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        parts = parts[1:]
    return ".".join(parts)


def name_of_node(name: str, scopes: str, constant: str) -> str:
    """The best name there is for a layer.

    Args:
        name: The node's own; of this project's graphs it is a path already.
        scopes: Its metadata ``SCOPES``; "" when there is none.
        constant: Name of its matrix, for nodes without any.
    """
    if path := module_path(scopes):
        return path
    if name.startswith("/"):
        parts = name.strip("/").split("/")
        kept = parts[:-1] if parts[-1].split("_")[0] in _OPERATORS and len(parts) > 1 else parts
        return unwrapped(".".join(kept))
    return unwrapped(name or constant.removesuffix(".weight"))


def joined(names: Sequence[str]) -> str:
    """One name for layers that share a product: ``layers.0.q_proj+k_proj+v_proj``.

    Args:
        names: Paths, of factors too; what they all begin with is said once, where that leaves one word each.
    """
    ends = {_factor(name) for name in names}
    end = ends.pop() if len(ends) == 1 else ""
    paths = [name.removesuffix(end) for name in names]
    prefixes = {path.rpartition(".")[0] for path in paths}
    if len(prefixes) > 1:
        return "+".join(paths) + end
    first, *others = paths
    return "+".join([first, *(path.rpartition(".")[2] for path in others)]) + end


def names_to_match(name: str) -> tuple[str, ...]:
    """Everything that a glob may mean by a layer: itself, the layer that it is a factor of, its members.

    Args:
        name: As ``joined`` and the exporter give it: ``a.query.down``, ``a.q+k``, ``a.q+k.down``.
    """
    whole = name.split(":", maxsplit=1)[0]
    layer = whole.removesuffix(_factor(whole))
    first, *others = layer.split("+")
    prefix = first.rpartition(".")[0]
    members = [each if "." in each or not prefix else f"{prefix}.{each}" for each in others]
    return tuple(dict.fromkeys((name, whole, layer, first, *members)))


def matches(glob: str, name: str) -> bool:
    """Whether a glob means a layer: by its path, that of its factor, or of one that shares its product."""
    return any(fnmatch.fnmatchcase(each, unwrapped(glob)) for each in names_to_match(name))


def _factor(name: str) -> str:
    return next((end for end in (".down", ".up") if name.endswith(end)), "")
