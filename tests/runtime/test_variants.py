"""Which package a device takes."""

import shutil
from collections.abc import Callable
from dataclasses import replace

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.runtime.package import open_package
from edgelr.runtime.variants import accepts, measured_on, own_name, package_for, released, with_variants


def test_the_package_itself_comes_before_its_variants(varied: Package, cpu: Device, npu: Device) -> None:
    packages = with_variants(varied)
    assert list(packages) == ["candidate", "npu"]
    assert (own_name(packages, cpu), own_name(packages, npu)) == ("candidate", "npu")
    assert package_for(varied, cpu) is varied
    assert package_for(varied, npu) == open_package(varied.folder / "npu")


def test_of_variants_the_first_that_is_accepted_is_taken(
    make_package: Callable[..., Package], cpu: Device
) -> None:
    names = {"candidate": "fp32", "half": "fp16", "wide": "a16w8", "static": "int8-static"}
    packages = {name: make_package(name, precision=precision) for name, precision in names.items()}
    assert own_name(packages, replace(cpu, accepts=("int8-static", "a16w8"))) == "wide"
    assert own_name(packages, replace(cpu, accepts=("weight-int4",))) is None


def test_a_baseline_is_never_meant_for_a_device(varied: Package, cpu: Device, npu: Device) -> None:
    dense = replace(varied, precision="fp32")
    packages = {"dense-fp32": dense, **with_variants(varied)}
    assert list(released(packages)) == ["candidate", "npu"]
    assert own_name({"dense-fp32": dense}, cpu) is None
    assert list(measured_on(packages, cpu)) == ["dense-fp32", "candidate"]
    assert list(measured_on(packages, npu)) == ["npu"]
    assert not accepts(npu, dense)


def test_where_no_variant_is_there_or_fits_the_package_is_taken(varied: Package, npu: Device) -> None:
    assert package_for(varied, replace(npu, accepts=("fp16",))) is varied
    shutil.rmtree(varied.folder / "npu")
    assert package_for(varied, npu) is varied
