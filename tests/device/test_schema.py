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


def test_a_host_belongs_to_ssh_and_is_not_timed() -> None:
    given = {**PROFILE, "evidence": "run", "runner": "ssh"}
    assert not Device.model_validate({**given, "host": "pi@board.local"}).timed
    assert Device.model_validate({**PROFILE, "evidence": "run"}).timed
    for odd in (given, {**PROFILE, "host": "board"}):
        with pytest.raises(ValidationError, match="'host' and 'runner: ssh' go together"):
            Device.model_validate(odd)
    with pytest.raises(ValidationError, match="pattern"):
        Device.model_validate({**given, "host": "-F"})
