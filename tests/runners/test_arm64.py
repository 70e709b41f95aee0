"""An emulated processor, where it is prepared; how its end is told, everywhere."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.device import prepared
from edgelr.device.load import load_devices
from edgelr.device.prepared import missing
from edgelr.device.session import open_session
from edgelr.errors import MissingRequirementError, UnsupportedModelError
from edgelr.runners.arm64 import _system, open_arm64
from edgelr.runtime.package import model_path
from edgelr.validate.across import compare_across

PI = load_devices()["raspberry-pi-4"]
needs_arm64 = pytest.mark.skipif(missing(PI) is not None, reason="scripts/prepare_arm64")


@needs_arm64
def test_it_computes_what_this_processor_computes(make_package: Callable[..., Package]) -> None:
    note = compare_across(make_package(), PI, (3, 5, 9))
    assert note is not None
    assert note.startswith("raspberry-pi-4 agrees with cpu-1t on 6 inputs of 3 lengths")
    assert note.endswith("(emulated)")


@needs_arm64
def test_what_it_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "odd.onnx").write_bytes(b"no model")
    with pytest.raises(UnsupportedModelError, match=r"raspberry-pi-4.*fails there: .*odd"):
        open_arm64(tmp_path / "odd.onnx", PI, {})


def test_a_process_that_ends_is_told_with_its_last_words(
    make_package: Callable[..., Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = tmp_path / "bin" / "qemu-aarch64-static"
    qemu.parent.mkdir()
    qemu.write_text(
        '#!/bin/sh\n[ "$2" = help ] && echo "  cortex-a72" && exit\n'
        'echo "qemu: Segmentation fault" >&2\nexit 139\n'
    )
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", f"{qemu.parent}:/usr/bin:/bin")
    monkeypatch.setenv(prepared.FOLDER, str(tmp_path))
    (tmp_path / "arm64").mkdir()
    (tmp_path / "arm64" / "ready").touch()
    with pytest.raises(UnsupportedModelError, match=r"ended \(exit code 139\): qemu: Segmentation fault"):
        open_session(model_path(make_package()), PI)


def test_without_an_emulator_the_script_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingRequirementError) as caught:
        open_arm64(tmp_path / "any.onnx", PI, {})
    assert caught.value.hint == "scripts/prepare_arm64"


def test_the_system_says_which_processor_it_is(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    folder = _system(tmp_path, "cortex-a53")
    assert "CPU part\t: 0xd03" in (folder / "proc" / "cpuinfo").read_text()
    assert (folder / "usr").resolve() == tmp_path / "usr"
    assert "0xd4f" in (_system(tmp_path, "max,sme=off") / "proc" / "cpuinfo").read_text()
