"""Which packages are measured on which device."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.errors import UsageError
from edgelr.runtime.variants import with_variants
from edgelr.validate.taken import check_packages, taken_by

Make = Callable[..., Package]


def test_packages_that_cannot_be_compared_are_named(make_package: Make) -> None:
    package, other = make_package("one"), make_package("two")
    with pytest.raises(UsageError, match="no candidate"):
        check_packages({"dense-fp32": package})
    others = replace(other, files={**other.files, "examples.jsonl": "0" * 64})
    with pytest.raises(UsageError, match=r"two \(dense-fp32\) and .*one have different examples"):
        check_packages({"candidate": package, "dense-fp32": others})
    with pytest.raises(UsageError, match="npu is for the task translation"):
        check_packages({"candidate": package, "npu": replace(other, task="translation")})


def test_baselines_come_first_and_variants_last(make_package: Make) -> None:
    package = make_package()
    names = ("wide", "candidate", "half", "dense-int8", "dense-fp32")
    ordered = check_packages(dict.fromkeys(names, package))
    assert list(ordered) == ["dense-fp32", "dense-int8", "candidate", "wide", "half"]


def test_a_variant_that_its_own_device_does_not_score_is_scored_elsewhere(
    varied: Package, cpu: Device
) -> None:
    packages = {"dense-fp32": replace(varied, precision="fp32"), **with_variants(varied)}
    devices = load_devices()
    taken = taken_by(packages, [devices["web-wasm"], devices["qnn-htp-emulator"], cpu, devices["cpu-4t"]])
    assert [(each.own, list(each.packages), list(each.besides), each.refused) for each in taken] == [
        ("candidate", ["dense-fp32", "candidate"], [], ()),
        ("npu", ["npu"], [], ("dense-fp32",)),
        ("candidate", ["dense-fp32", "candidate"], ["npu"], ()),
        ("candidate", ["dense-fp32", "candidate"], [], ()),
    ]


def test_a_device_that_scores_its_variant_is_enough(varied: Package, cpu: Device, npu: Device) -> None:
    assert [list(each.besides) for each in taken_by(with_variants(varied), [cpu, npu])] == [[], []]


def test_a_device_that_takes_neither_is_named(varied: Package, cpu: Device) -> None:
    with pytest.raises(UsageError, match=r"candidate is int8-dynamic, cpu-1t accepts fp16\n(.|\n)*a variant"):
        taken_by(with_variants(varied), [replace(cpu, accepts=("fp16",))])
