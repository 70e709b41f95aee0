"""Runs one graph on an emulated or another machine: it needs Python, numpy and ONNX Runtime, no more.

Reads messages from standard input and answers on standard output; see ``frames.py``. That file and this one
are all of edgelr that is there.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgelr.runners.frames import pack, read

_CPU = "CPUExecutionProvider"


def main() -> None:
    """Answer until standard input ends."""
    # What ONNX Runtime prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    session = None
    while (message := read(sys.stdin.buffer)) is not None:
        header, arrays = message
        try:
            if header["do"] == "open":
                session, told = _open_files(header, arrays) if arrays else _open(header)
                answer = pack(told, {})
            else:
                assert session is not None
                results = session.run(header["names"], arrays)
                answer = pack({}, dict(zip(header["names"], results, strict=True)))
        except _failures() as error:
            answer = pack({"error": str(error)}, {})
        answers.write(answer)
        answers.flush()


def _open_files(header: dict[str, Any], files: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Open a graph whose files came with the message; once it is open they are not needed."""
    with tempfile.TemporaryDirectory(prefix="edgelr-") as folder:
        for name, content in files.items():
            (Path(folder) / Path(name).name).write_bytes(content.tobytes())
        return _open({**header, "model": str(Path(folder) / header["model"])})


def _open(header: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = header["threads"]
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, header["level"])
    for name, value in header["entries"].items():
        options.add_session_config_entry(name, value)
    provider = header.get("provider", _CPU)
    providers = [(provider, header.get("options", {}))]
    if provider != _CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", str(int(not header["fallback"])))
        providers += [(_CPU, {})] if header["fallback"] else []
    if provider not in onnxruntime.get_available_providers():
        raise RuntimeError(f"{provider} is not in its ONNX Runtime")
    session = onnxruntime.InferenceSession(header["model"], options, providers=providers)
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"{provider} did not start, the session is on {session.get_providers()[0]}")
    told: dict[str, Any] = {
        key: [[entry.name, entry.type, list(entry.shape)] for entry in entries]
        for key, entries in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    }
    if "session.record_ep_graph_assignment_info" in header["entries"]:
        told["parts"] = [
            [part.ep_name, [[node.domain, node.name, node.op_type] for node in part.get_nodes()]]
            for part in session.get_provider_graph_assignment_info()
        ]
    return session, told


def _failures() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        RuntimeError,
        TypeError,
        ValueError,
        state.EPFail,
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )


if __name__ == "__main__":
    main()
