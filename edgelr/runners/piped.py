"""A process that runs a graph, behind a pipe: whatever command reaches it, and its end told in words."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from edgelr.device.schema import Device
from edgelr.errors import EdgelrError, UnsupportedModelError
from edgelr.runners.frames import pack, read
from edgelr.runners.remote import Array, Header

PATIENCE_SECONDS = 600.0
_TOLD = 2000  # characters of what a process said last


class PipedProcess:
    """A process that answers messages; it ends with the graph that it runs.

    Args:
        device: What errors name.
        command: What to start; it speaks ``frames.py`` on its standard streams.
        folder: Its working folder here, removed in the end; what it prints is written there.
        silent: What is raised when it ends before its first answer.
        hint: What to do then.
    """

    def __init__(
        self,
        device: Device,
        command: Sequence[str],
        folder: Path,
        *,
        silent: type[EdgelrError] = UnsupportedModelError,
        hint: str,
    ) -> None:
        self._name, self._silent, self._hint = device.name, silent, hint
        self._said = (folder / "said").open("w+b")
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, cwd=folder
        )
        weakref.finalize(self, _end, self._process, folder)

    def ask(self, header: Header, arrays: Mapping[str, Array]) -> tuple[Header, dict[str, Array]]:
        """Send a message and wait for its answer.

        Args:
            header: JSON values.
            arrays: By name.

        Raises:
            UnsupportedModelError: The process died, hangs, or answers with an error.
            EdgelrError: It died before its first answer: as ``silent`` says.
        """
        self.send(pack(header, arrays))
        reader = self._process.stdout
        assert reader is not None
        self._wait(reader)
        answer = read(cast(BinaryIO, reader))
        if answer is None:
            self._process.wait()
            raise self._fault("ended")
        self._silent = UnsupportedModelError
        if "error" in answer[0]:
            raise UnsupportedModelError(
                f"device '{self._name}': ONNX Runtime fails there: {answer[0]['error']}",
                "try another device, or another quantize.scheme",
            )
        return answer

    def send(self, content: bytes) -> None:
        """Write bytes to the process.

        Raises:
            EdgelrError: It ended.
        """
        writer = self._process.stdin
        assert writer is not None
        try:
            writer.write(content)
            writer.flush()
        except BrokenPipeError as error:
            self._process.wait()
            raise self._fault("ended") from error

    def _wait(self, reader: IO[bytes]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not select.select([reader], [], [], 1.0)[0]:
            if time.monotonic() > end:
                self._process.kill()
                raise self._fault(f"gave no answer in {PATIENCE_SECONDS:.0f} s")

    def _fault(self, what: str) -> EdgelrError:
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - _TOLD))
        said = self._said.read().decode(errors="replace").strip()
        code = self._process.poll()
        return self._silent(
            f"device '{self._name}': its process {what} (exit code {code}): {said or 'no word'}", self._hint
        )


def open_request(device: Device, entries: Mapping[str, str]) -> dict[str, Any]:
    """What ``graph_worker.py`` is told of a profile when it opens a graph.

    Args:
        device: The profile.
        entries: Session config entries, those of the profile among them.
    """
    level = device.session.graph_optimization_level
    return {
        "do": "open",
        "threads": device.threads or 1,
        "level": "ORT_DISABLE_ALL" if level == "disabled" else f"ORT_ENABLE_{level.upper()}",
        "entries": dict(entries),
        "provider": device.provider,
        "options": device.options,
        "fallback": device.fallback == "allow",
    }


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
