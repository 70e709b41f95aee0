"""What a device lacks on this host, with the command that brings it."""

from pathlib import Path

import pytest

from edgelr.device import prepared
from edgelr.device.load import load_devices
from edgelr.device.prepared import find_program, missing, prepared_folder
from edgelr.device.schema import Device


def device(name: str) -> Device:
    return load_devices()[name]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host where nothing was prepared and no program is installed."""
    monkeypatch.setenv(prepared.FOLDER, str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))


def test_what_is_prepared_is_in_the_cache_or_where_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(prepared.FOLDER, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert prepared_folder("arm64") == Path("/cache/edgelr/arm64")
    monkeypatch.setenv(prepared.FOLDER, "/else")
    assert prepared_folder("web") == Path("/else/web")


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("name", "command"), [("arm64-cortex-a53", "scripts/prepare_arm64"), ("web-wasm", "scripts/prepare_web")]
)
def test_a_bare_host_names_the_script(name: str, command: str) -> None:
    lacking = missing(device(name))
    assert lacking is not None
    assert lacking.command == command
    assert "installed" in lacking.what


@pytest.mark.usefixtures("bare")
def test_the_script_that_is_named_is_there() -> None:
    root = Path(__file__).parents[2]
    commands = {found.command for each in load_devices().values() if (found := missing(each)) is not None}
    scripts = [command for command in commands if command.startswith("scripts/")]
    assert [script for script in scripts if not (root / script).is_file()] == []


@pytest.mark.usefixtures("bare")
def test_a_processor_that_the_emulator_does_not_know(tmp_path: Path) -> None:
    qemu = tmp_path / "qemu-aarch64-static"
    qemu.write_text("#!/bin/sh\necho '  cortex-a53'\n")
    qemu.chmod(0o755)
    unknown = missing(device("arm64-cortex-a710"))
    assert unknown is not None
    assert "knows no processor 'cortex-a710'" in unknown.what
    known = missing(device("arm64-cortex-a53"))
    assert known is not None
    assert "there is no ARM64 system" in known.what


def test_the_plug_in_of_an_npu_is_a_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    npu = device("qnn-htp-emulator")
    assert missing(npu) == ("onnxruntime-qnn is not installed", "pip install onnxruntime-qnn")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    lacking = missing(npu)
    assert lacking is not None
    assert "x86-64 Linux only" in lacking.what


def test_what_is_analyzed_or_runs_here_lacks_nothing() -> None:
    assert missing(device("ios-coreml")) is None
    assert missing(device("cpu-1t")) is None


@pytest.mark.usefixtures("bare")
def test_the_first_program_that_is_installed_is_taken(tmp_path: Path) -> None:
    assert find_program(("one", "other")) is None
    (tmp_path / "other").touch(mode=0o755)
    assert find_program(("one", "other")) == str(tmp_path / "other")
