"""What ``edgelr quantize --scheme auto`` asks of a device; ``test_command.py`` has the command."""

from dataclasses import replace

import pytest

from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.errors import MissingRequirementError, UsageError
from edgelr.quantize.auto import check_timed


def test_a_device_that_is_timed_here_will_do(cpu: Device) -> None:
    check_timed(cpu)


@pytest.mark.parametrize("name", ["ios-coreml", "web-wasm"])
def test_where_nothing_is_timed_nothing_is_chosen(name: str) -> None:
    with pytest.raises(UsageError, match=rf"nothing can be timed on '{name}' \(evidence: "):
        check_timed(load_devices()[name])


def test_a_choice_of_nothing_but_fp32_is_none(cpu: Device) -> None:
    with pytest.raises(UsageError, match=r"nothing to choose from on 'cpu-1t', which accepts fp32, fp16"):
        check_timed(replace(cpu, accepts=("fp32", "fp16")))


def test_a_provider_that_is_not_here_names_its_command(cpu: Device) -> None:
    with pytest.raises(MissingRequirementError, match="DmlExecutionProvider is not in this ONNX Runtime"):
        check_timed(replace(cpu, provider="DmlExecutionProvider"))
