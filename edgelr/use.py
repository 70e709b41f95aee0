"""What ``edgelr run`` and ``edgelr validate`` do with a package, as an app would: without torch."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.errors import DamagedArtifactError, GateError, UsageError
from edgelr.terminal import columns, failure, say

if TYPE_CHECKING:
    from edgelr.artifacts import Package
    from edgelr.recipe.schema import Validation
    from edgelr.verdict import LatencyRow, Verdict


def answer(folder: Path, inputs: Sequence[str], *, device: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Run every input through a package, and print what comes out.

    Args:
        folder: The package; a device that takes a variant of it gets that one.
        inputs: Texts; ``-`` stands for the lines of standard input.
        device: Name or file of the profile to run as.
        options: Those of the package's kind, see its module in ``kinds/``; None or False is not given.

    Returns:
        What the kind's ``use`` gives, in the order of the inputs.

    Raises:
        UsageError: There is no input, no such package or no such device, or an option is of another task.
        DataError: An input is unusable.
        UnsupportedModelError: The package is for an unknown task.
    """
    from edgelr.device.load import find_device
    from edgelr.kinds.kind import kind_of
    from edgelr.runtime.package import open_package
    from edgelr.runtime.variants import package_for

    profile = find_device(device)
    package = package_for(open_package(folder), profile)
    kind = kind_of(package)
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    _check_options(package, kind.OPTIONS, given)
    return kind.use(package, inputs, profile, **given)


def _check_options(package: Package, known: Sequence[str], given: Mapping[str, object]) -> None:
    for name in given:
        if name not in known:
            option = "--" + name.replace("_", "-")
            own = ", ".join("--" + each.replace("_", "-") for each in known)
            raise UsageError(
                f"{option} is not for {package.folder}, a package for {package.task}", f"it has {own}"
            )


def check(
    folder: Path,
    device_names: Sequence[str],
    baseline_folders: Sequence[Path],
    *,
    seconds: float,
    metric: str | None = None,
) -> dict[str, Any]:
    """Measure a package on devices, next to baselines, and hold it against its own gates.

    Args:
        folder: The package.
        device_names: Names or files of the profiles to measure on.
        baseline_folders: Packages of dense models.
        seconds: Measuring time a device.
        metric: ``FILE.py:FUNCTION`` that judges outputs too, of a package of arrays.

    Returns:
        The verdict, with an ``error`` when a gate failed. A gate that needs a baseline or a device that was
        not given is in its notes.

    Raises:
        UsageError: There is no such package, device or function, or two baselines are the same variant.
        DamagedArtifactError: A package does not match its manifest.
    """
    from edgelr.device.load import find_device
    from edgelr.progress import Progress
    from edgelr.runtime.package import open_package
    from edgelr.runtime.variants import own_name, with_variants
    from edgelr.validate.stage import validate

    devices = [find_device(name) for name in dict.fromkeys(device_names)]
    there = with_variants(open_package(folder))
    wanted = {"candidate", *(own_name(there, device) for device in devices)}
    opened = {**_baselines(baseline_folders), **{name: there[name] for name in there if name in wanted}}
    packages = {variant: replace(package, metric=metric) for variant, package in opened.items()}
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
    placement = [
        (row.device, row.variant, row.provider, str(row.nodes), _share(row.macs_share), row.evidence)
        for row in verdict.placement
    ]
    gates = [
        (row.gate, f"{row.value:.5g}", f"{row.limit:.5g}", "passed" if row.passed else "FAILED")
        for row in verdict.gates
    ]
    tables = (
        (("device", "variant", "metric", "value", "95 % interval"), accuracy),
        _latency_table(verdict.latency),
        (("device", "variant", "provider", "nodes", "share of work", "evidence"), placement),
        (("gate", "measured", "limit", ""), gates),
    )
    for heading, rows in tables:
        if rows:
            say(columns([heading, *rows]) + "\n")
    for note in verdict.notes:
        say(f"note: {note}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


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
