"""A browser: onnxruntime-web in a headless Chromium, on a page that this process serves."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgelr.device.prepared import BROWSERS, find_program, prepared_folder
from edgelr.device.schema import Device
from edgelr.errors import MissingRequirementError, UnsupportedModelError
from edgelr.runners.frames import pack, read
from edgelr.runners.remote import Array, Header, RemoteGraph
from edgelr.runners.web_server import WebServer
from edgelr.runtime.external_data import external_locations

START_SECONDS = 120.0
PATIENCE_SECONDS = 600.0
WEBGPU = "WebGpuExecutionProvider"
_FLAGS = (
    *("--headless=new", "--no-first-run", "--disable-quic", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--mute-audio", "--disable-dev-shm-usage"),
)
_NO_GPU = ("--disable-gpu",)
_SIMULATED_GPU = (
    *("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"),
    "--use-vulkan=swiftshader",
)


def open_web(model: Path, device: Device, entries: Mapping[str, str]) -> RemoteGraph:
    """Open a graph in a browser.

    Args:
        model: The ONNX file.
        device: The profile.
        entries: Session config entries, those of the profile among them.

    Raises:
        MissingRequirementError: There is no browser, or it does not start.
        UnsupportedModelError: The browser fails on the graph.
    """
    browser = _Browser(device, model.resolve().parent)
    gpu = device.provider == WEBGPU
    level = device.session.graph_optimization_level
    request = {
        "do": "open",
        "library": f"./library/ort.{'webgpu' if gpu else 'wasm'}.bundle.min.mjs",
        "folder": f"{browser.address}library/",
        "model": model.name,
        "weights": sorted({location for _, location in external_locations(model)}),
        "provider": "webgpu" if gpu else "wasm",
        "threads": max(device.threads, 1),
        "level": level,
        "entries": dict(entries),
    }
    told, _ = browser.ask(request, {}, START_SECONDS)
    return RemoteGraph(browser.ask, told)


class _Browser:
    """Chromium on our page; it ends with the graph that it runs."""

    def __init__(self, device: Device, model: Path) -> None:
        program = find_program(BROWSERS)
        library = prepared_folder("web") / "node_modules" / "onnxruntime-web" / "dist"
        if program is None or not library.is_dir():
            raise MissingRequirementError("no browser is prepared", "scripts/prepare_web")
        self._name = device.name
        self._server = WebServer(library, model)
        self._folder = Path(tempfile.mkdtemp(prefix="edgelr-web-"))
        self._said = (self._folder / "said").open("w+b")
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        command = [
            *(program, *_FLAGS, *(_SIMULATED_GPU if device.provider == WEBGPU else _NO_GPU)),
            *(["--no-sandbox"] if root else []),  # Chromium refuses to run as root with it
            *(f"--user-data-dir={self._folder / 'profile'}", self.address),
        ]
        self._process = subprocess.Popen(
            command, stdout=self._said, stderr=self._said, start_new_session=True
        )
        weakref.finalize(self, _end, self._process, self._server, self._folder)

    @property
    def address(self) -> str:
        """Of the page."""
        return self._server.address

    def ask(
        self, header: Header, arrays: Mapping[str, Array], seconds: float = PATIENCE_SECONDS
    ) -> tuple[Header, dict[str, Array]]:
        """Send a message and wait for its answer.

        Raises:
            UnsupportedModelError: The browser ended, hangs, or answers with an error.
        """
        self._server.messages.put(pack(header, arrays))
        end = time.monotonic() + seconds
        while True:
            try:
                answer = read(io.BytesIO(self._server.answers.get(timeout=0.5)))
                break
            except queue.Empty:
                if self._process.poll() is not None:
                    raise self._fault(f"ended (exit code {self._process.returncode})") from None
                if time.monotonic() > end:
                    raise self._fault(f"gave no answer in {seconds:.0f} s") from None
        assert answer is not None
        if "error" in answer[0]:
            raise UnsupportedModelError(f"device '{self._name}': the browser fails: {answer[0]['error']}")
        return answer

    def _fault(self, what: str) -> UnsupportedModelError:
        self._said.flush()
        lines = (self._folder / "said").read_text(errors="replace").strip().splitlines()
        said = lines[-1] if lines else "it said nothing"
        return UnsupportedModelError(
            f"device '{self._name}': the browser {what}: {said}", "run scripts/prepare_web again"
        )


def _end(process: subprocess.Popen[Any], server: WebServer, folder: Path) -> None:
    # The browser is the first of a group of processes, which end with it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    server.close()
    shutil.rmtree(folder, ignore_errors=True)
