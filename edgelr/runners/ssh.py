"""Another machine that is reached by ssh, and has Python, NumPy and ONNX Runtime: nothing is installed there.

The worker's own code and the graph go over the same pipe as every input, and are gone when it closes. A call
takes what the network takes as well, so nothing is timed through it: to time, run ``edgelr validate`` there.
"""

from __future__ import annotations

import inspect
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgelr.device.schema import Device
from edgelr.errors import MissingRequirementError
from edgelr.runners import frames, graph_worker
from edgelr.runners.piped import PipedProcess, open_request
from edgelr.runners.remote import Array, RemoteGraph
from edgelr.runtime.external_data import external_locations

# What is started there: it reads the length of a program, the program, and runs it.
_START = "import sys; i = sys.stdin.buffer; exec(i.read(int.from_bytes(i.read(4), 'little')))"
_PROGRAM = """
import sys, types
for name, text in {sources!r}:
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = []
    exec(compile(text, name, "exec"), module.__dict__)
sys.modules[{main!r}].main()
"""


def open_ssh(model: Path, device: Device, entries: Mapping[str, str]) -> RemoteGraph:
    """Open a graph on another machine.

    Args:
        model: The ONNX file; it and its weights are sent.
        device: The profile, with the ``host`` as ssh takes it.
        entries: Session config entries, those of the profile among them.

    Raises:
        MissingRequirementError: ssh does not get there, or finds no Python with what is needed.
        UnsupportedModelError: ONNX Runtime refuses the graph there, or the connection is lost.
    """
    host, python = str(device.host), device.python
    check = f'ssh {host} {python} -c "import numpy, onnxruntime"'
    process = PipedProcess(
        device,
        # Without a terminal to ask on, and an end for a host that does not answer.
        ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", host, remote_command(python)],
        Path(tempfile.mkdtemp(prefix="edgelr-ssh-")),
        silent=MissingRequirementError,
        hint=f"this has to work without a password: {check}",
    )
    process.send(program())
    told, _ = process.ask({**open_request(device, entries), "model": model.name}, _files(model))
    return RemoteGraph(process.ask, told)


def remote_command(python: str) -> str:
    """What the shell there is given: a Python that runs what ``program`` is.

    Args:
        python: As the shell there finds it.
    """
    return f"{shlex.quote(python)} -u -c {shlex.quote(_START)}"


def program() -> bytes:
    """The worker with all that it imports of edgelr, after its length."""
    modules = (frames, graph_worker)
    sources = [("edgelr", ""), ("edgelr.runners", "")]
    sources += [(module.__name__, inspect.getsource(module)) for module in modules]
    text = _PROGRAM.format(sources=sources, main=graph_worker.__name__).encode()
    return len(text).to_bytes(4, "little") + text


def _files(model: Path) -> dict[str, Array]:
    names = [model.name, *sorted({location for _, location in external_locations(model)})]
    return {name: np.fromfile(model.parent / name, np.uint8) for name in names}
