"""Which packages are measured on which device, known before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgelr.artifacts import BASELINES, CANDIDATE, Package
from edgelr.device.schema import Device
from edgelr.errors import UsageError
from edgelr.runtime.examples import EXAMPLES
from edgelr.runtime.package import precisions
from edgelr.runtime.variants import accepts, measured_on, own_name, released
from edgelr.validate.gates import scores


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one device is measured with.

    Attributes:
        device: The profile.
        own: Name of the released package that is meant for it, the candidate or a variant.
        packages: By name, that one and the baselines that the device accepts.
        besides: Released packages that are only scored here, as the devices that they are meant for, such as
            a simulated NPU, score nothing.
        refused: Baselines that the device does not accept.
    """

    device: Device
    own: str
    packages: Mapping[str, Package]
    besides: Mapping[str, Package]
    refused: tuple[str, ...]


def check_packages(packages: Mapping[str, Package]) -> dict[str, Package]:
    """The packages in the usual order, once it is sure that they can be compared.

    Args:
        packages: By name: the candidate, baselines, and every other name is that of a variant.

    Raises:
        UsageError: There is no candidate, or they are of different tasks or have different examples.
    """
    if CANDIDATE not in packages:
        raise UsageError(
            "there is no candidate to validate", "give the package to be released as 'candidate'"
        )
    candidate = packages[CANDIDATE]
    for name, package in packages.items():
        if package.task != candidate.task:
            raise UsageError(f"{name} is for the task {package.task}, the candidate for {candidate.task}")
        if package.files.get(EXAMPLES) != candidate.files.get(EXAMPLES):
            raise UsageError(
                f"{package.folder} ({name}) and {candidate.folder} have different examples",
                "compare packages of the same recipe",
            )
    first = {name: packages[name] for name in (*BASELINES, CANDIDATE) if name in packages}
    return {**first, **packages}


def taken_by(packages: Mapping[str, Package], devices: Sequence[Device]) -> list[Taken]:
    """What every device is measured with, in the order of the devices.

    Args:
        packages: As of ``check_packages``.
        devices: Where to measure.

    Raises:
        UsageError: A device accepts neither the candidate nor a variant.
    """
    hosts = _hosts(packages, devices)
    found = []
    for device in devices:
        own = own_name(packages, device)
        if own is None:
            raise _refusal(packages[CANDIDATE], device)
        taken = measured_on(packages, device)
        row = Taken(
            device=device,
            own=own,
            packages=taken,
            besides={name: packages[name] for name, host in hosts.items() if host is device},
            refused=tuple(name for name in packages if name in BASELINES and name not in taken),
        )
        found.append(row)
    return found


def _hosts(packages: Mapping[str, Package], devices: Sequence[Device]) -> dict[str, Device]:
    """Released packages that no device of their own scores -> the first other device that can."""
    scoring = [device for device in devices if scores(device)]
    owned = {own_name(packages, device) for device in scoring}
    found = {}
    for name, package in released(packages).items():
        host = next((device for device in scoring if accepts(device, package)), None)
        if name not in owned and host is not None:
            found[name] = host
    return found


def _refusal(candidate: Package, device: Device) -> UsageError:
    refused = [each for each in precisions(candidate) if each not in device.accepts]
    return UsageError(
        f"the candidate is {', '.join(refused)}, {device.name} accepts {', '.join(device.accepts)}",
        "change quantize.scheme in the recipe, add a variant to it, or choose another device",
    )
