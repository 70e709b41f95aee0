"""From a YAML file to a Recipe: every fault at once, each with its line, before anything is computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgelr.errors import UsageError
from edgelr.recipe.agreement import check_agreement
from edgelr.recipe.custom import with_own_model
from edgelr.recipe.faults import check_schema, usage_error
from edgelr.recipe.gates import MetricGate
from edgelr.recipe.schema import Recipe
from edgelr.recipe.yaml_file import read_key, read_yaml


def load_recipe(path: Path, *, known_devices: Collection[str] | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        path: The YAML file.
        known_devices: Names of the device profiles that there are. None: the packaged ones and those of a
            folder ``devices`` next to the recipe.

    Raises:
        UsageError: The file cannot be read, or has faults; the message has one line for each fault, such as
            ``recipes/a.yaml:14: compress.keep.parametrs: unknown key; did you mean 'parameters'?``.
    """
    file = read_yaml(path, what="recipe")
    file = replace(file, value=with_own_model(file.value))
    recipe, faults = check_schema(Recipe, file)
    if known_devices is None:
        from edgelr.device.load import load_devices

        known_devices = load_devices(path.parent / "devices")
    faults += check_agreement(file, known_devices)
    if recipe is None or faults:
        raise usage_error(path, faults)
    return recipe


def metrics_named(recipe: Recipe) -> dict[str, str]:
    """Where a recipe names a metric: key path -> metric, of gates, of a budget and of accuracy control.

    Args:
        recipe: Checked.
    """
    gates = enumerate(recipe.validation.gates)
    found = {
        f"validate.gates[{at}].metric": gate.metric for at, gate in gates if isinstance(gate, MetricGate)
    }
    if recipe.compress.keep.quality is not None:
        found["compress.keep.quality.metric"] = recipe.compress.keep.quality.metric
    quantized = {"": recipe.quantize}
    quantized |= {f"variants.{name}.": variant.quantize for name, variant in recipe.variants.items()}
    for where, quantize in quantized.items():
        if quantize is not None and quantize.max_drop is not None:
            found[f"{where}quantize.max_drop.metric"] = quantize.max_drop.metric
    return found


def data_path(recipe_path: Path, text: str) -> Path:
    """A path that a recipe names: relative ones are relative to the recipe's folder."""
    return (recipe_path.parent / text).resolve()


def fault(recipe_path: Path, key_path: str, message: str) -> UsageError:
    """A fault that only a later stage can see, with the line of its key: ``a.yaml:7: model.path: ...``.

    Args:
        recipe_path: The recipe.
        key_path: Such as ``model.path`` or ``validate.gates[1].device``.
        message: What is wrong, and what to do.

    Returns:
        The error, to be raised. Where the recipe is no longer readable, it has no line.
    """
    key = read_key(key_path)
    try:
        file = read_yaml(recipe_path, what="recipe")
    except UsageError:
        return UsageError(f"{recipe_path}: {key_path}: {message}")
    return usage_error(recipe_path, (file.fault(key, message),))


def recipe_hash(recipe: Recipe) -> str:
    """sha256 of what the recipe says, defaults included; comments, order and notation do not matter.

    What ``edgelr compare`` accepts does not count: no result of a build depends on it.
    """
    document = recipe.model_dump(mode="json", by_alias=True, exclude={"compare"})
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors that check while one types."""
    schema = Recipe.model_json_schema(by_alias=True)
    schema["required"].remove("model")  # a module of one's own brings it, see ``with_own_model``
    own = {"properties": {"task": {"properties": {"type": {"const": "custom"}}}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "if": own,
        "else": {"required": ["model"]},
    }
