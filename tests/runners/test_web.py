"""A browser, where one is prepared; how its end is told, everywhere."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.device import prepared
from edgelr.device.load import load_devices
from edgelr.device.prepared import missing
from edgelr.device.session import open_session
from edgelr.errors import MissingRequirementError, UnsupportedModelError
from edgelr.runners import web
from edgelr.runners.web import open_web
from edgelr.runtime.package import model_path
from edgelr.validate.across import compare_across

WASM = load_devices()["web-wasm"]
needs_browser = pytest.mark.skipif(missing(WASM) is not None, reason="scripts/prepare_web")


@needs_browser
@pytest.mark.parametrize("name", ["web-wasm", "web-wasm-2t"])
def test_it_computes_what_this_processor_computes(name: str, make_package: Callable[..., Package]) -> None:
    note = compare_across(make_package(), load_devices()[name], (3, 5, 9))
    assert note is not None
    assert note.startswith(f"{name} agrees with cpu-1t on 6 inputs of 3 lengths")


@needs_browser
def test_what_it_refuses_is_told(tmp_path: Path, make_package: Callable[..., Package]) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(model_path(make_package()).read_bytes()[:100])
    with pytest.raises(Exception, match=r"odd|browser fails"):
        open_web(path, WASM, {})


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A browser that is none."""
    (tmp_path / "chromium").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "chromium").chmod(0o755)
    (tmp_path / "web" / "node_modules" / "onnxruntime-web" / "dist").mkdir(parents=True)
    (tmp_path / "web" / "ready").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv(prepared.FOLDER, str(tmp_path))


def test_a_browser_that_does_not_start_is_told_with_its_last_words(
    make_package: Callable[..., Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, "echo cannot open display >&2; exit 7")
    with pytest.raises(UnsupportedModelError, match=r"ended \(exit code 7\): cannot open display"):
        open_session(model_path(make_package()), WASM)


def test_a_browser_that_hangs_is_given_up(
    make_package: Callable[..., Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(web, "START_SECONDS", 0.1)
    with pytest.raises(UnsupportedModelError, match="gave no answer in 0 s: it said nothing"):
        open_session(model_path(make_package()), WASM)


def test_without_a_browser_the_script_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingRequirementError) as caught:
        open_web(tmp_path / "any.onnx", WASM, {})
    assert caught.value.hint == "scripts/prepare_web"
