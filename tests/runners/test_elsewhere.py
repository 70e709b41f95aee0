"""Each runner is reached from where every graph is opened."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import MissingRequirementError, UsageError
from edgelr.runners.elsewhere import open_elsewhere
from edgelr.runtime.package import model_path


@pytest.mark.parametrize("name", ["raspberry-pi-4", "web-wasm", "qnn-htp-emulator"])
def test_what_is_not_prepared_is_missing(
    name: str, make_package: Callable[..., Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(MissingRequirementError) as caught:
        open_session(model_path(make_package()), load_devices()[name])
    assert caught.value.exit_code == 3


def test_this_process_is_not_elsewhere(cpu: Device, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="runs in this process"):
        open_elsewhere(tmp_path / "any.onnx", cpu, {}, lambda: None, ())
