"""Which package a device takes: the one that is built for most, or the first variant that it accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgelr.artifacts import BASELINES, CANDIDATE, Package
from edgelr.runtime.package import MANIFEST, open_package, precisions

if TYPE_CHECKING:
    from edgelr.device.schema import Device


def accepts(device: Device, package: Package) -> bool:
    """Whether a device takes every precision that a package has."""
    return set(precisions(package)) <= set(device.accepts)


def released(packages: Mapping[str, Package]) -> dict[str, Package]:
    """Of the packages of a build, by name, those that are made to be released: no baselines."""
    return {name: package for name, package in packages.items() if name not in BASELINES}


def own_name(packages: Mapping[str, Package], device: Device) -> str | None:
    """Which of the packages of a build is meant for a device; None where none is.

    Args:
        packages: By name: the candidate before its variants; baselines do not count.
        device: The profile.
    """
    named = released(packages).items()
    return next((name for name, package in named if accepts(device, package)), None)


def measured_on(packages: Mapping[str, Package], device: Device) -> dict[str, Package]:
    """Of the packages of a build, what a device is measured with: its own, and the baselines it accepts.

    Args:
        packages: By name, as of ``own_name``.
        device: The profile.
    """
    own = own_name(packages, device)
    return {
        name: package
        for name, package in packages.items()
        if name == own or (name in BASELINES and accepts(device, package))
    }


def with_variants(package: Package) -> dict[str, Package]:
    """A package as the candidate, and its variants by name; those that were deleted are left out.

    Args:
        package: As opened by ``open_package``.

    Raises:
        DamagedArtifactError: A variant does not match its manifest.
    """
    there = [name for name in package.variants if (package.folder / name / MANIFEST).is_file()]
    return {CANDIDATE: package, **{name: open_package(package.folder / name) for name in there}}


def package_for(package: Package, device: Device) -> Package:
    """What an app on a device loads: the package itself, or a variant; the package where none is accepted.

    Args:
        package: As opened by ``open_package``.
        device: The profile.

    Raises:
        DamagedArtifactError: A variant does not match its manifest.
    """
    if accepts(device, package):
        return package
    packages = with_variants(package)
    return packages[own_name(packages, device) or CANDIDATE]
