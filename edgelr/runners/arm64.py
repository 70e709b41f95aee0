"""An ARM64 processor: ONNX Runtime's own ARM64 wheel, run instruction by instruction by qemu.

What it computes is what that processor computes, with the kernels that ONNX Runtime chooses for it; how long
it takes says nothing.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from edgelr.device.prepared import QEMU, find_program, prepared_folder
from edgelr.device.schema import Device
from edgelr.errors import MissingRequirementError, UnsupportedModelError
from edgelr.runners.frames import pack, read
from edgelr.runners.remote import Array, Header, RemoteGraph

PATIENCE_SECONDS = 600.0
_TOLD = 2000  # characters of what a process said last

# How a system names its processor: ONNX Runtime asks for it, and chooses kernels by it.
_PARTS = {
    "cortex-a53": "0xd03",
    "cortex-a72": "0xd08",
    "cortex-a76": "0xd0b",
    "cortex-a710": "0xd47",
    "max": "0xd4f",  # Neoverse V2
}
_OTHER = "0xd0b"


def open_arm64(model: Path, device: Device, entries: Mapping[str, str]) -> RemoteGraph:
    """Open a graph on an emulated processor.

    Args:
        model: The ONNX file.
        device: The profile.
        entries: Session config entries, those of the profile among them.

    Raises:
        MissingRequirementError: The emulator is not installed.
        UnsupportedModelError: It crashes, hangs, or ONNX Runtime refuses the graph there.
    """
    process = _Process(device)
    level = device.session.graph_optimization_level
    request = {
        "do": "open",
        "model": str(model.resolve()),
        "threads": device.threads or 1,
        "level": "ORT_DISABLE_ALL" if level == "disabled" else f"ORT_ENABLE_{level.upper()}",
        "entries": dict(entries),
    }
    told, _ = process.ask(request, {})
    return RemoteGraph(process.ask, told)


class _Process:
    """Python on the emulated processor; it ends with the graph that it runs."""

    def __init__(self, device: Device) -> None:
        qemu = find_program(QEMU)
        if qemu is None:
            raise MissingRequirementError(f"{QEMU[0]} is not installed", "scripts/prepare_arm64")
        self._name = device.name
        root = prepared_folder("arm64") / "root"
        self._folder = _system(root, device.processor or "max")
        site, own = root / "opt" / "site", Path(__file__).resolve().parents[2]
        command = [
            *(qemu, "-L", str(self._folder), "-cpu", device.processor or "max"),
            *("-E", f"PYTHONPATH={site}:{own}", "-E", "PYTHONDONTWRITEBYTECODE=1", "-E", "OMP_NUM_THREADS=1"),
            *(str(root / "usr" / "bin" / "python3"), "-m", "edgelr.runners.arm64_worker"),
        ]
        self._said = (self._folder / "said").open("w+b")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, cwd=self._folder
        )
        weakref.finalize(self, _end, self._process, self._folder)

    def ask(self, header: Header, arrays: Mapping[str, Array]) -> tuple[Header, dict[str, Array]]:
        """Send a message and wait for its answer.

        Raises:
            UnsupportedModelError: The process died, hangs, or answers with an error.
        """
        reader, writer = self._process.stdout, self._process.stdin
        assert reader is not None
        assert writer is not None
        try:
            writer.write(pack(header, arrays))
            writer.flush()
        except BrokenPipeError as error:
            raise self._fault("ended") from error
        self._wait(reader)
        answer = read(cast(BinaryIO, reader))
        if answer is None:
            self._process.wait()
            raise self._fault("ended")
        if "error" in answer[0]:
            raise UnsupportedModelError(
                f"device '{self._name}': ONNX Runtime fails there: {answer[0]['error']}"
            )
        return answer

    def _wait(self, reader: IO[bytes]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not select.select([reader], [], [], 1.0)[0]:
            if time.monotonic() > end:
                self._process.kill()
                raise self._fault(f"gave no answer in {PATIENCE_SECONDS:.0f} s")

    def _fault(self, what: str) -> UnsupportedModelError:
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - _TOLD))
        said = self._said.read().decode(errors="replace").strip()
        code = self._process.poll()
        return UnsupportedModelError(
            f"device '{self._name}': its process {what} (exit code {code}): {said or 'no word'}",
            "run scripts/prepare_arm64 again",
        )


def _system(root: Path, processor: str) -> Path:
    """A folder that the emulated process sees as its system: the prepared one, on this processor."""
    folder = Path(tempfile.mkdtemp(prefix="edgelr-arm64-"))
    for name in ("usr", "lib", "etc", "bin"):
        if (root / name).exists():
            (folder / name).symlink_to(root / name)
    part = _PARTS.get(processor.partition(",")[0], _OTHER)
    (folder / "proc").mkdir()
    (folder / "proc" / "cpuinfo").write_text(
        "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 1\n"
    )
    cores = folder / "sys" / "devices" / "system" / "cpu"
    cores.mkdir(parents=True)
    for name in ("possible", "present"):
        (cores / name).write_text("0\n")
    return folder


def _end(process: subprocess.Popen[Any], folder: Path) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:
                continue
    shutil.rmtree(folder, ignore_errors=True)
