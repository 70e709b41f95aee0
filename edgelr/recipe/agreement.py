"""Sections of a recipe that must agree with each other: what is gated must be measured, and known.

It reads the raw file, not the typed recipe, so that these faults are found next to those of the schema. What
has a wrong type is passed over: the schema says so already.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from edgelr.metrics import ERRORS, METRICS
from edgelr.recipe.faults import did_you_mean
from edgelr.recipe.gates import BaselineName
from edgelr.recipe.quantization import check_quantization
from edgelr.recipe.schema import GRAPH_SUFFIX, Latency, Validation
from edgelr.recipe.tasks import Generate, SentenceEmbedding
from edgelr.recipe.variants import check_variants, places
from edgelr.recipe.yaml_file import YamlFile, describe
from edgelr.recipe.yaml_tree import Fault, KeyPath


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What will be measured, and what could be.

    Attributes:
        known_devices: Names of all device profiles.
        devices: Those that the recipe validates on.
        baselines: Baselines built next to the candidate.
        tokens: Input lengths timed.
        audio_s: Likewise of speech, in seconds.
        metrics: Metrics of the task; None when the task is unknown.
    """

    known_devices: Collection[str]
    devices: tuple[str, ...]
    baselines: tuple[str, ...]
    tokens: tuple[int, ...]
    audio_s: tuple[int, ...]
    metrics: tuple[str, ...] | None


def check_agreement(file: YamlFile, known_devices: Collection[str]) -> tuple[Fault, ...]:
    """Find everything that contradicts something else in the recipe, or names something unknown.

    Args:
        file: The recipe as read.
        known_devices: Names of the device profiles that there are.
    """
    defaults = Validation()  # type: ignore[call-arg]
    task = file.at(("task", "type"))
    measured = _Measured(
        known_devices=known_devices,
        devices=_listed(file, "devices", str, defaults.devices),
        baselines=_listed(file, "baselines", str, defaults.baselines),
        tokens=_listed(file, "tokens", int, defaults.tokens),
        audio_s=_listed(file, "audio_s", int, defaults.audio_s),
        metrics=METRICS.get(task) if isinstance(task, str) else None,
    )
    return (
        *_check_task(file),
        *_check_graph(file),
        *_check_budget(file, measured),
        *_check_lists(file, measured),
        *_check_lengths(file, measured),
        *_check_gates(file, measured),
        *check_quantization(file),
        *check_variants(file),
    )


_GRAPH = "onnx"

# What only some tasks know: key path -> these tasks.
_EMBEDDING, _SPEECH = ("sentence-embedding",), ("automatic-speech-recognition",)
_RECOMMENDATION = ("recommendation",)
_READING = ("translation", *_SPEECH)  # a source, and writing
_WRITING = (*_READING, "text-generation")
_TEXT_LABELS = ("text-classification", "token-classification")
_IMAGE_LABELS = ("image-classification",)
_ARRAYS = ("custom", "onnx", *_IMAGE_LABELS)
_CLASSIFY = (*_TEXT_LABELS, *_IMAGE_LABELS)
_OF_TASK: dict[KeyPath, tuple[str, ...]] = {
    ("compress", "keep", "latency"): _EMBEDDING,
    ("export", "drop_unused_tokens"): (*_EMBEDDING, *_TEXT_LABELS),
    ("export", "top"): _RECOMMENDATION,
    ("finetune", "distill", "embedding"): _EMBEDDING,
    ("finetune", "distill", "similarity"): _EMBEDDING,
    ("finetune", "distill", "hidden"): (*_EMBEDDING, *_WRITING, *_CLASSIFY),
    ("finetune", "distill", "outputs"): ("custom",),
    ("finetune", "distill", "logits"): (*_WRITING, *_RECOMMENDATION, *_CLASSIFY),
    ("finetune", "distill", "attention"): _READING,
    ("finetune", "distill", "temperature"): (*_WRITING, *_CLASSIFY),
    ("finetune", "distill", "sequence"): _WRITING,
    ("finetune", "max_tokens"): _EMBEDDING,
    ("finetune", "label_smoothing"): (*_WRITING, *_CLASSIFY),
    ("finetune", "mask_time"): _SPEECH,
    ("model", "train"): (*_RECOMMENDATION, "text-classification"),
    ("validate", "tokens"): (*_EMBEDDING, "translation", "text-generation", *_TEXT_LABELS),
    ("validate", "audio_s"): _SPEECH,
    ("validate", "rows"): _ARRAYS,
}
_TRAINED = {
    "text-classifier": "text-classification",
    **dict.fromkeys(("matrix-factorization", "two-tower", "deepfm"), "recommendation"),
}


def _check_task(file: YamlFile) -> Iterator[Fault]:
    task = file.at(("task", "type"))
    if not isinstance(task, str) or not any(task in owners for owners in _OF_TASK.values()):
        return
    for wanted, owners in _OF_TASK.items():
        for key in places(file, wanted):
            if task not in owners and file.at(key):
                named = " and ".join(owners)
                yield file.fault(key, f"is for the task {named}, and this one is {task}; take it out")
    at: KeyPath = ("model", "train", "type")
    owner = _TRAINED.get(str(file.at(at)), task)
    if task in _OF_TASK["model", "train"] and owner != task:
        yield file.fault(at, f"is for the task {owner}, and this one is {task}")


# What a graph, which has no gradients and is not traced, cannot have: key path -> the values, and why.
_NEEDS_TORCH: dict[KeyPath, tuple[tuple[object, ...] | None, str]] = {
    ("finetune",): (None, "an ONNX file has no gradients to tune by; take the section out"),
    ("compress", "factors"): (("kronecker",), "needs gradients, which an ONNX file has not: take whitened"),
    ("compress", "allocate"): (("gradient",), "an ONNX file has no gradients: take sensitivity"),
    ("compress", "center"): ((True,), "is for torch models; take it out"),
    ("compress", "refine"): ((True,), "is for torch models; take it out"),
    ("export", "opset"): (None, "an ONNX file keeps the opset that it has; take it out"),
}


def _check_graph(file: YamlFile) -> Iterator[Fault]:
    """An ONNX file is a task of its own, in which nothing needs torch."""
    task, path = file.at(("task", "type")), file.at(("model", "path"))
    if not isinstance(path, str) or not isinstance(task, str):
        return
    if task != _GRAPH:
        if path.endswith(GRAPH_SUFFIX):
            message = f"an ONNX file is for the task {_GRAPH}, and this one is {task}"
            yield file.fault(("model", "path"), message)
        return
    if not path.endswith(GRAPH_SUFFIX):
        yield file.fault(("model", "path"), f"the task {_GRAPH} needs a file that ends with {GRAPH_SUFFIX}")
    for wanted, (values, reason) in _NEEDS_TORCH.items():
        for key in places(file, wanted):
            found = file.at(key)
            if found is not None and (values is None or found in values):
                yield file.fault(key, reason)


def _check_budget(file: YamlFile, measured: _Measured) -> Iterator[Fault]:
    for place in (("compress", "keep", "quality"), *places(file, ("quantize", "max_drop"))):
        limits = file.at(place)
        if isinstance(limits, dict) and "metric" in limits:
            yield from _check_metric(file, place, limits, measured)
    key: KeyPath = ("compress", "keep", "latency")
    latency = file.at(key)
    if not isinstance(latency, dict):
        return
    device, longest = latency.get("device"), _longest(file)
    if isinstance(device, str) and device not in measured.known_devices:
        yield file.fault((*key, "device"), _unknown("device", device, measured.known_devices))
    tokens = latency.get("tokens", Latency.model_fields["tokens"].default)
    if longest is not None and _is_number(tokens) and tokens > longest:
        yield file.fault((*key, "tokens"), _too_long(tokens, longest))


def _check_lists(file: YamlFile, measured: _Measured) -> Iterator[Fault]:
    for name in ("devices", "baselines", "tokens", "audio_s", "rows"):
        entries = file.at(("validate", name))
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            key = ("validate", name, index)
            if entry in entries[:index]:
                yield file.fault(key, f"{describe(entry)} is listed twice")
            elif name == "devices" and isinstance(entry, str) and entry not in measured.known_devices:
                yield file.fault(key, _unknown("device", entry, measured.known_devices))


def _check_lengths(file: YamlFile, measured: _Measured) -> Iterator[Fault]:
    # Lengths left out count too: their default must fit a task whose texts are shorter.
    longest = _longest(file)
    uncounted = (*_SPEECH, *_ARRAYS, *_RECOMMENDATION)  # whose lengths are no tokens
    if longest is None or file.at(("task", "type")) in uncounted:
        return
    entries = file.at(("validate", "tokens"))
    if not isinstance(entries, list):
        entries = list(measured.tokens)
    for index, tokens in enumerate(entries):
        if _is_number(tokens) and tokens > longest:
            message = _too_long(tokens, longest)
            if file.at(("task", "type")) == "text-generation":
                message = f"{tokens} tokens and as many to be written are more than task.max_tokens"
            yield file.fault(("validate", "tokens", index), message)


def _check_gates(file: YamlFile, measured: _Measured) -> Iterator[Fault]:
    gates = file.at(("validate", "gates"))
    for index, gate in enumerate(gates if isinstance(gates, list) else ()):
        if not isinstance(gate, dict):
            continue
        key: KeyPath = ("validate", "gates", index)
        if "metric" in gate:
            yield from _check_metric(file, key, gate, measured)
        elif "size_mb" in gate and isinstance(gate["size_mb"], dict):
            yield from _check_baseline(file, (*key, "size_mb"), gate["size_mb"], measured)
        elif "latency" in gate:
            yield from _check_latency(file, key, gate, measured)


def _check_metric(
    file: YamlFile, key: KeyPath, limits: dict[str, Any], measured: _Measured
) -> Iterator[Fault]:
    metric = limits["metric"]
    if not isinstance(metric, str):
        return
    if measured.metrics is not None and metric not in measured.metrics:
        yield file.fault((*key, "metric"), _unknown("metric", metric, measured.metrics))
    elif metric in ERRORS and ("max_drop" in limits or "max_drop" in key):
        better = f"{metric} is an error, better when lower: {_INSTEAD[str(key[0])]}"
        yield file.fault((*key, "max_drop" if "max_drop" in limits else "metric"), better)
    elif metric not in ERRORS and "max_rise" in limits:
        yield file.fault((*key, "max_rise"), f"{metric} is better when higher: set max_drop")


# Of a gate or a budget on an error.
_OTHER = "take a metric such as agreement"
_INSTEAD = {"validate": "set max_rise", "compress": _OTHER, "quantize": _OTHER, "variants": _OTHER}


def _check_latency(
    file: YamlFile, key: KeyPath, gate: dict[str, Any], measured: _Measured
) -> Iterator[Fault]:
    device, tokens = gate.get("device"), gate.get("tokens")
    if isinstance(device, str) and device not in measured.devices:
        known = device in measured.known_devices
        message = (
            f"'{device}' is not measured: add it to validate.devices ({', '.join(measured.devices)})"
            if known
            else _unknown("device", device, measured.known_devices)
        )
        yield file.fault((*key, "device"), message)
    if _is_number(tokens) and tokens not in measured.tokens:
        lengths = ", ".join(str(length) for length in measured.tokens)
        yield file.fault(
            (*key, "tokens"), f"{tokens} tokens are not measured: add them to validate.tokens ({lengths})"
        )
    seconds = gate.get("audio_s")
    if _is_number(seconds) and seconds not in measured.audio_s:
        lengths = ", ".join(str(length) for length in measured.audio_s)
        yield file.fault(
            (*key, "audio_s"), f"{seconds} s are not measured: add them to validate.audio_s ({lengths})"
        )
    yield from _check_baseline(file, key, gate, measured)


def _check_baseline(
    file: YamlFile, key: KeyPath, limits: dict[str, Any], measured: _Measured
) -> Iterator[Fault]:
    baseline = limits.get("max_share_of")
    if baseline in get_args(BaselineName) and baseline not in measured.baselines:
        message = f"'{baseline}' is not built: add it to validate.baselines ({', '.join(measured.baselines)})"
        yield file.fault((*key, "max_share_of"), message)


def _longest(file: YamlFile) -> int | None:
    """The longest text: ``task.max_tokens`` or its default; None where it is no number.

    Of a model that goes on with texts it is half of that: as many tokens are written as are read.
    """
    goes_on = file.at(("task", "type")) == "text-generation"
    longest = file.at(("task", "max_tokens"))
    if longest is None:
        longest = (Generate if goes_on else SentenceEmbedding).model_fields["max_tokens"].default
    return longest // (2 if goes_on else 1) if isinstance(longest, int) else None


def _too_long(tokens: int, longest: int) -> str:
    return f"{tokens} tokens are more than task.max_tokens, {longest}: no text is that long"


def _listed(file: YamlFile, name: str, kind: type, default: tuple[Any, ...]) -> tuple[Any, ...]:
    """The entries of ``validate.<name>`` that have the right type; the default where it is no list."""
    entries = file.at(("validate", name))
    if not isinstance(entries, list):
        return default
    return tuple(entry for entry in entries if isinstance(entry, kind) and not isinstance(entry, bool))


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    shown = name if len(name) <= 60 else f"{name[:57]}..."
    return f"unknown {what} '{shown}'{did_you_mean(name, known) or '; known: ' + ', '.join(sorted(known))}"
