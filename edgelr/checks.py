"""What a build needs of this host and of its devices, checked before anything is computed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgelr.data_identity import own_metric
from edgelr.device.host import require
from edgelr.device.load import get_device
from edgelr.device.schema import Device
from edgelr.errors import MissingRequirementError, UsageError
from edgelr.recipe.custom import Custom
from edgelr.recipe.load import data_path, fault, metrics_named
from edgelr.recipe.quantize import TIMED, LayerScheme, Quantize
from edgelr.recipe.recommend import InteractionsFile
from edgelr.recipe.schema import Recipe
from edgelr.recipe.tasks import (
    CldrPairs,
    OnnxGraph,
    Recognize,
    SpokenPhrases,
    TaskSettings,
    Translate,
    TranslationsDataset,
    UtterancesDataset,
)

_BUILD = ("accelerate", "onnxscript", "safetensors", "torch", "transformers")
_TRANSLATION = ("sacrebleu",)
_SPEECH = ("jiwer", "soundfile", "soxr")
_VARIANT = (
    "; or add what it accepts to the recipe's section variants, for an NPU "
    "npu: {export: {operators: plain}, quantize: {scheme: a16w8}}"
)


def variant_of(device: Device, recipe: Recipe) -> str | None:
    """Which variant of a recipe a device takes; None for the recipe's own package, which comes first.

    Raises:
        UsageError: It accepts neither that nor any variant.
    """
    if not _refused(device, recipe.quantize):
        return None
    fitting = (name for name, each in recipe.variants.items() if not _refused(device, each.quantize))
    if (found := next(fitting, None)) is None:
        check_accepts(device, recipe, instead=_VARIANT)
    return found


def check_accepts(device: Device, recipe: Recipe, *, instead: str = "") -> None:
    """Make sure that a device takes everything that a layer of the recipe's package may be.

    Args:
        device: The profile.
        recipe: Checked.
        instead: What else would help.

    Raises:
        UsageError: It does not.
    """
    if not (refused := _refused(device, recipe.quantize)):
        return
    accepts = ", ".join(device.accepts)
    if refused == ("auto",):
        raise UsageError(
            f"quantize.scheme: auto has nothing to choose from on '{device.name}', which accepts {accepts}",
            "leave the section quantize out, name a scheme that the device accepts, or choose another device"
            + instead,
        )
    raise UsageError(
        f"device '{device.name}' does not accept {', '.join(refused)} (it accepts {accepts})",
        "choose another quantize.scheme, other quantize.layers, or another device" + instead,
    )


def _refused(device: Device, quantize: Quantize | None) -> tuple[str, ...]:
    """What a layer may be, and the device does not accept."""
    if quantize is None:
        return () if "fp32" in device.accepts else ("fp32",)
    if quantize.scheme == "auto" and not set(timed_schemes([device])) - {"fp32"}:
        return ("auto",)
    return tuple(scheme for scheme in quantize.schemes if scheme not in device.accepts)


def takers(recipe: Recipe, recipe_path: Path, devices: Sequence[Device]) -> dict[str | None, list[Device]]:
    """The devices of a build, by the variant that they take; None has those of the recipe's own package.

    Args:
        recipe: Checked.
        recipe_path: Where it was read from.
        devices: Those of the build.

    Raises:
        UsageError: One accepts neither, or none takes the recipe's own, which would be released untested.
    """
    found: dict[str | None, list[Device]] = {}
    for device in devices:
        found.setdefault(variant_of(device, recipe), []).append(device)
    if None not in found:
        message = (
            f"every device of this build takes one ({', '.join(each.name for each in devices)}), and nothing "
            "would test the recipe's own package: add a device that takes that, such as cpu-1t"
        )
        raise fault(recipe_path, "variants", message)
    return found


def timed_schemes(devices: Sequence[Device]) -> tuple[LayerScheme, ...]:
    """What the scheme auto may choose from: everything that can be timed and that all devices accept."""
    return tuple(scheme for scheme in TIMED if all(scheme in device.accepts for device in devices))


def auto_device(recipe: Recipe, recipe_path: Path, devices: Sequence[Device]) -> Device | None:
    """The device that the scheme auto is measured on, the first that can be timed; None of other schemes.

    Args:
        recipe: Checked.
        recipe_path: Where it was read from.
        devices: Those of this build; each accepts a scheme.

    Raises:
        UsageError: Nothing can be timed on any of them, or they have no scheme in common.
    """
    if recipe.quantize is None or recipe.quantize.scheme != "auto":
        return None
    names = ", ".join(device.name for device in devices)
    found = next((each for each in devices if each.evidence == "run" and each.runner == "in-process"), None)
    if found is None:
        message = f"auto needs a device that can be timed here (evidence: run), and this is for {names}"
        raise fault(recipe_path, "quantize.scheme", message)
    if not set(timed_schemes(devices)) - {"fp32"}:
        message = f"auto has nothing to choose from: {names} accept no scheme that is the same for all"
        raise fault(recipe_path, "quantize.scheme", message)
    return found


def budget_device(recipe: Recipe, recipe_path: Path, profiles: Mapping[str, Device]) -> Device | None:
    """The device whose kernels are timed for a budget of latency; None when the budget is another.

    Args:
        recipe: Checked.
        recipe_path: Where it was read from.
        profiles: Every known profile, by name.

    Raises:
        UsageError: Nothing can be timed on it, or it does not take the recipe's precision.
        MissingRequirementError: Its provider is not installed.
    """
    latency = recipe.compress.keep.latency
    if latency is None:
        return None
    device = get_device(latency.device, profiles)
    if not device.timed:
        raise fault(
            recipe_path,
            "compress.keep.latency.device",
            f"nothing can be timed on '{device.name}' (evidence: {device.evidence}); "
            "a budget of latency needs a device with evidence: run",
        )
    require(device)
    check_accepts(device, recipe)
    return device


def check_own_metric(recipe: Recipe, recipe_path: Path) -> None:
    """Make sure that a module of the user's own has the metric that its recipe asks for.

    Args:
        recipe: Checked.
        recipe_path: Where it was read from.

    Raises:
        UsageError: Its file has no function of that name.
        UnsupportedModelError: Its file has a fault.
    """
    if not isinstance(recipe.task, Custom) or not data_path(recipe_path, recipe.task.file).is_file():
        return  # a missing file is said with the model's path
    for key, metric in metrics_named(recipe).items():
        if metric == "metric" and own_metric(recipe.task, recipe_path) is None:
            raise fault(recipe_path, key, f"{recipe.task.file} has no function 'metric': write it there")


def check_extras(settings: TaskSettings) -> None:
    """Make sure that what only building needs is installed, before anything is computed.

    Args:
        settings: The recipe's task, which may need an extra of its own.

    Raises:
        MissingRequirementError: It is not; the hint is the command that helps.
    """
    if isinstance(settings, OnnxGraph):
        return  # arrays in, arrays out: the light half does all of it
    wanted, extras = list(_BUILD), "build"
    if isinstance(settings, Translate):
        wanted, extras = [*wanted, *_TRANSLATION], f"{extras},translation"
        if isinstance(settings.data, CldrPairs):
            wanted.append("babel")
        if isinstance(settings.data, TranslationsDataset):
            wanted, extras = [*wanted, "datasets"], f"{extras},datasets"
    if isinstance(settings, Recognize):
        wanted, extras = [*wanted, *_SPEECH], f"{extras},speech"
        if isinstance(settings.data, SpokenPhrases):
            wanted.append("espeakng-loader")
        if isinstance(settings.data, UtterancesDataset):
            wanted, extras = [*wanted, "datasets"], f"{extras},datasets"
    if isinstance(settings.data, InteractionsFile) and settings.data.path.endswith(".parquet"):
        wanted, extras = [*wanted, "pyarrow"], f"{extras},recommendation"
    missing = [name for name in wanted if not _installed(name)]
    if missing:
        raise MissingRequirementError(
            f"building needs packages that are not installed: {', '.join(missing)}",
            f"pip install 'edgelr[{extras}]'",
        )


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
