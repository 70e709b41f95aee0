"""A device is the same whoever has read it."""

import json
from dataclasses import FrozenInstanceError, asdict

import pytest

from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.typed import typed


def test_every_device_goes_through_json() -> None:
    for device in load_devices().values():
        assert typed(Device, json.loads(json.dumps(asdict(device)))) == device


def test_nothing_changes_a_device() -> None:
    with pytest.raises(FrozenInstanceError):
        load_devices()["cpu-1t"].threads = 2  # type: ignore[misc]
