"""What ``edgelr run`` and ``edgelr validate`` do with a package, as an app would: without torch."""

from __future__ import annotations

import json
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import DamagedArtifactError, DataError, GateError, UnsupportedModelError, UsageError
from edgelr.terminal import columns, failure, say

if TYPE_CHECKING:
    from edgelr.artifacts import LatencyRow, Package, Verdict
    from edgelr.device.schema import Device
    from edgelr.recipe.schema import Validation

STANDARD_INPUT = "-"
# Options of ``edgelr run`` by task.
OPTIONS = {
    "sentence-embedding": ("top", "vectors"),
    "translation": ("file", "beam", "max_tokens"),
    "automatic-speech-recognition": ("beam", "max_tokens", "segments"),
}
NO_INPUT = "give a text in quotes, or - to read lines from standard input"
PASSAGE_WIDTH = 200


def answer(folder: Path, inputs: Sequence[str], *, device: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Run every input through a package, and print what comes out.

    Args:
        folder: The package.
        inputs: Texts; ``-`` stands for the lines of standard input.
        device: Name or file of the profile to run as.
        options: Those of the package's task; None or False is not given. ``top`` and ``vectors`` are of
            sentence-embedding; ``file``, ``beam`` and ``max_tokens`` are of translation; ``beam``,
            ``max_tokens`` and ``segments`` are of automatic-speech-recognition, whose inputs are sound files.

    Returns:
        ``{"vectors": [{"input", "vector"}]}``, ``{"answers": [{"input", "matches": [{"id", "score",
        "passage"}]}]}``, ``{"translations": [{"input", "output"}]}`` or ``{"transcripts": [{"input",
        "output", "seconds", "segments": [{"start_s", "end_s", "text"}]}]}``, in the order of the inputs.

    Raises:
        UsageError: There is no input, no such package or no such device, or an option is of another task.
        DataError: Standard input is empty.
        UnsupportedModelError: The package is for an unknown task.
    """
    from edgelr.device.load import find_device
    from edgelr.runtime.package import open_package

    package = open_package(folder)
    if package.task not in OPTIONS:
        raise UnsupportedModelError(f"{folder} is a package for {package.task}", "update edgelr to run it")
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    _check_options(package, given)
    match package.task:
        case "translation":
            from edgelr.use_translation import translate_inputs

            return translate_inputs(package, inputs, find_device(device), **given)
        case "automatic-speech-recognition":
            from edgelr.use_speech import transcribe_files

            return transcribe_files(package, inputs, find_device(device), **given)
        case _:
            return _search(package, inputs, find_device(device), **given)


def _check_options(package: Package, given: Mapping[str, object]) -> None:
    for name in given:
        if name not in OPTIONS[package.task]:
            option = "--" + name.replace("_", "-")
            own = ", ".join("--" + each.replace("_", "-") for each in OPTIONS[package.task])
            raise UsageError(
                f"{option} is not for {package.folder}, a package for {package.task}", f"it has {own}"
            )


def _search(
    package: Package, inputs: Sequence[str], device: Device, *, top: int = 3, vectors: bool = False
) -> dict[str, Any]:
    """Embed every input, and print its vector or the passages of the package that match it best."""
    from edgelr.runtime.text import embed, nearest, open_text_package

    texts = _texts(inputs)
    session, tokenizer = open_text_package(package, device)
    found = embed(session, tokenizer, texts)
    if vectors:
        rows = [[float(f"{number:.7g}") for number in vector] for vector in found.tolist()]
        say("\n".join(json.dumps(row) for row in rows))
        pairs = zip(texts, rows, strict=True)
        return {"vectors": [{"input": text, "vector": row} for text, row in pairs]}
    answers = []
    for text, vector in zip(texts, found, strict=True):
        matches = [asdict(match) for match in nearest(package, vector, top)]
        answers.append({"input": text, "matches": matches})
        _print_matches(text if len(texts) > 1 else None, matches)
    return {"answers": answers}


def check(
    folder: Path, device_names: Sequence[str], baseline_folders: Sequence[Path], *, seconds: float
) -> dict[str, Any]:
    """Measure a package on devices, next to baselines, and hold it against its own gates.

    Args:
        folder: The package.
        device_names: Names or files of the profiles to measure on.
        baseline_folders: Packages of dense models.
        seconds: Measuring time a device.

    Returns:
        The verdict, with an ``error`` when a gate failed. A gate that needs a baseline or a device that was
        not given is in its notes.

    Raises:
        UsageError: There is no such package or device, or two baselines are the same variant.
        DamagedArtifactError: A package does not match its manifest.
    """
    from edgelr.device.load import find_device
    from edgelr.progress import Progress
    from edgelr.runtime.package import open_package
    from edgelr.validate.stage import validate

    devices = [find_device(name) for name in dict.fromkeys(device_names)]
    packages = {**_baselines(baseline_folders), "candidate": open_package(folder)}
    settings = _settings(packages["candidate"], [device.name for device in devices], seconds)
    with tempfile.TemporaryDirectory(prefix="edgelr-") as scratch:
        verdict = validate(packages, devices, settings, Path(scratch), Progress())
    _print_verdict(verdict)
    document = {name: value for name, value in asdict(verdict).items() if name != "folder"}
    document["latency"] = [row.figures() for row in verdict.latency]
    document["package"] = str(folder)
    failed = [gate.gate for gate in verdict.gates if not gate.passed]
    if failed:
        document |= failure(
            GateError(f"{len(failed)} of {len(verdict.gates)} gates failed: {'; '.join(failed)}")
        )
    return document


def _texts(inputs: Sequence[str]) -> list[str]:
    """The inputs, with the lines of standard input in the place of ``-``; empty lines are left out."""
    if not inputs:
        raise UsageError("there is no input", NO_INPUT)
    texts: list[str] = []
    for text in inputs:
        if text == STANDARD_INPUT:
            lines = sys.stdin.buffer.read().decode("utf-8", "replace").splitlines()
            texts += [line for line in lines if line.strip()]
        else:
            texts.append(text)
    if not texts:
        raise DataError("standard input holds no text", "give one text a line")
    return texts


def _print_matches(title: str | None, matches: Sequence[Mapping[str, Any]]) -> None:
    if title is not None:
        say(f"{title}\n")
    for match in matches:
        passage = textwrap.shorten(match["passage"], PASSAGE_WIDTH, placeholder=" …")
        say(f"{match['score']:.3f}  {match['id']}\n{textwrap.indent(textwrap.fill(passage, 100), ' ' * 7)}\n")


def _baselines(folders: Sequence[Path]) -> dict[str, Package]:
    """Dense packages under the names that gates know them by."""
    from edgelr.runtime.package import open_package

    packages: dict[str, Package] = {}
    for folder in folders:
        package = open_package(folder)
        variant = "dense-fp32" if package.precision == "fp32" else "dense-int8"
        if variant in packages:
            raise UsageError(
                f"two baselines are {variant}: {packages[variant].folder} and {folder}", "give one"
            )
        packages[variant] = package
    return packages


def _settings(candidate: Package, devices: Sequence[str], seconds: float) -> Validation:
    """What to validate: the gates that travel in the package."""
    from pydantic import ValidationError

    from edgelr.recipe.schema import Validation

    try:
        document = {"devices": list(devices), "seconds": seconds, "gates": candidate.gates}
        return Validation.model_validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedArtifactError(
            f"{candidate.folder / 'package.json'}: {where}: {first['msg']}", "get or build the package again"
        ) from error


def _print_verdict(verdict: Verdict) -> None:
    """The figures as tables, the gates last."""
    accuracy = [
        (row.device, row.variant, row.metric, f"{row.value:.4f}", f"[{row.ci95[0]:.4f}, {row.ci95[1]:.4f}]")
        for row in verdict.accuracy
    ]
    placement = [(row.device, row.variant, row.provider, str(row.nodes)) for row in verdict.placement]
    gates = [
        (row.gate, f"{row.value:.5g}", f"{row.limit:.5g}", "passed" if row.passed else "FAILED")
        for row in verdict.gates
    ]
    tables = (
        (("device", "variant", "metric", "value", "95 % interval"), accuracy),
        _latency_table(verdict.latency),
        (("device", "variant", "provider", "nodes"), placement),
        (("gate", "measured", "limit", ""), gates),
    )
    for heading, rows in tables:
        if rows:
            say(columns([heading, *rows]) + "\n")
    for note in verdict.notes:
        say(f"note: {note}")


def _latency_table(rows: Sequence[LatencyRow]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heading and lines; what is written token by token, or heard, has columns of its own."""
    written = any(row.tokens_per_s is not None or row.first_token_ms is not None for row in rows)
    heard = any(row.rtf is not None for row in rows)
    lines = []
    for row in rows:
        times = (f"{time:.2f}" for time in (row.p50_ms, row.p90_ms, row.p99_ms))
        speed = ["-" if value is None else f"{value:.2f}" for value in (row.tokens_per_s, row.first_token_ms)]
        parts = ["-" if value is None else f"{value:.2f}" for value in _parts(row)]
        more = (*(speed if written else ()), *(parts if heard else ()))
        rest = (*more, f"{row.peak_bytes / 1e6:.1f}", row.evidence)
        lines.append((row.device, row.variant, row.shape, *times, *rest))
    more = ("tokens/s", "first token ms") if written else ()
    more += ("real-time factor", "features ms", "encoder ms", "decoder ms") if heard else ()
    return ("device", "variant", "shape", "p50 ms", "p90 ms", "p99 ms", *more, "peak MB", "evidence"), lines


def _parts(row: LatencyRow) -> tuple[float | None, ...]:
    return (row.rtf, row.features_ms, row.encoder_ms, row.decoder_ms)
