"""What a profile may say together."""

import pytest
from pydantic import ValidationError

from edgelr.device.schema import Device

PROFILE = {"edgelr": 1, "name": "d", "title": "D", "provider": "CPUExecutionProvider", "evidence": "emulated"}


def test_a_processor_belongs_to_an_emulated_one() -> None:
    assert Device.model_validate({**PROFILE, "runner": "arm64", "processor": "max"}).processor == "max"
    for odd in ({"runner": "arm64"}, {"processor": "max"}, {"runner": "web", "processor": "max"}):
        with pytest.raises(ValidationError, match="'processor' and 'runner: arm64' go together"):
            Device.model_validate({**PROFILE, **odd})


def test_options_are_text() -> None:
    with pytest.raises(ValidationError, match="string"):
        Device.model_validate({**PROFILE, "options": {"device_id": 0}})
