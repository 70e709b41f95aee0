"""ONNX Runtime sessions exactly as a device profile says, or an error: never a quiet fall back to the CPU."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.device.host import require, threads_used
from edgelr.device.schema import Device
from edgelr.errors import (
    DamagedArtifactError,
    EdgelrError,
    MissingRequirementError,
    UnsupportedModelError,
    UsageError,
)

if TYPE_CHECKING:
    import onnxruntime

    from edgelr.runners.protocol import OpenGraph

CPU = "CPUExecutionProvider"
_NO_FALLBACK = "session.disable_cpu_ep_fallback"
_RECORD = "session.record_ep_graph_assignment_info"
# Or ONNX Runtime rounds activations of 16 bits to 8 where the weights have 8: quicker on a CPU, but not what
# the graph says, nor what an NPU computes of it.
_AS_WRITTEN = {"session.qdq_matmulnbits_accuracy_level": "1"}
# ONNX Runtime reports these as damaged or failed graphs, but the file is fine: the runtime lacks something.
_UNSUPPORTED = re.compile(
    r"No Op registered|not a registered function/op|NOT_IMPLEMENTED|Unsupported model IR version|"
    r"only \*guarantees\* support|fallback to CPU EP has been explicitly disabled"
)
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?", re.DOTALL)


def session_options(
    device: Device, host_threads: int | None = None, entries: Mapping[str, str] = {}
) -> onnxruntime.SessionOptions:
    """Session options of a profile: its threads, its optimization level, its entries; one run at a time.

    Args:
        device: The profile.
        host_threads: Cores of the host, at most as many threads are used; those that it has when None.
        entries: Session config entries measured as best for this device; they win over the profile's.

    Raises:
        UsageError: An entry that ONNX Runtime refuses.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads_used(device, host_threads)
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = _level(device)
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # fatal: errors come as exceptions, and would else be printed twice
    wanted = {**_AS_WRITTEN, **device.session.entries, **entries}
    # Other runners look at every node themselves, and say which one is elsewhere.
    if device.provider != CPU and device.runner == "in-process":
        wanted[_NO_FALLBACK] = "1" if device.fallback == "forbid" else "0"
    for name, value in wanted.items():
        try:
            options.add_session_config_entry(name, value)
        except _runtime_errors() as error:
            raise UsageError(f"device '{device.name}': session entry {name!r}: {_reason(error)}") from error
    return options


def open_session(
    model: Path,
    device: Device,
    *,
    entries: Mapping[str, str] = {},
    host_threads: int | None = None,
    profile: Path | None = None,
    sizes: Sequence[Mapping[str, int]] = (),
) -> Any:  # noqa: ANN401 - an OpenGraph; a session of ONNX Runtime, where the device runs it in this process
    """Open an ONNX model on a device, on exactly the provider of its profile.

    Args:
        model: The ONNX file.
        device: The profile.
        entries: Session config entries on top of the profile's.
        host_threads: Cores of the host; those that it has when None.
        profile: Start of the file name of a profile of the operators; none is made when None.
        sizes: Of axes, for a device with fixed shapes; smallest first.

    Raises:
        MissingRequirementError: The profile's provider is not installed, or did not start.
        DamagedArtifactError: The file is missing, or is no valid ONNX model.
        UnsupportedModelError: The model is valid, but needs what this ONNX Runtime or this provider lacks.
        UsageError: The profile is analyzed only, or has an entry that ONNX Runtime refuses.
    """
    if device.evidence == "static":
        raise UsageError(f"device '{device.name}' is analyzed only (evidence: static); nothing can run on it")
    require(device)
    if not model.is_file():
        raise DamagedArtifactError(f"{model} does not exist", "build the package again")
    if device.runner != "in-process":
        return _open_elsewhere(model, device, entries, sizes)

    def open_at(fixed: Mapping[str, int]) -> OpenGraph:
        options = session_options(device, host_threads, entries)
        for axis, size in fixed.items():
            options.add_free_dimension_override_by_name(axis, size)
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        session: OpenGraph = _open_here(model, device, options)
        if not device.captures:
            return session
        from edgelr.runners.captured import CapturedGraph

        return CapturedGraph(session)

    if device.shapes == "fixed":
        from edgelr.runners.fixed import FixedShapes, file_entries

        return FixedShapes(*file_entries(model), sizes or ({},), open_at)
    return open_at({})


def _open_here(model: Path, device: Device, options: onnxruntime.SessionOptions) -> Any:  # noqa: ANN401
    import onnxruntime

    providers: list[str | tuple[str, dict[str, str]]] = [(device.provider, device.options)]
    if device.provider != CPU and device.fallback == "allow":
        providers.append(CPU)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers, disable_fallback=1)
    except _runtime_errors() as error:
        raise _opening_error(model, device, error) from error
    started = session.get_providers()[0]
    if started != device.provider:
        raise MissingRequirementError(
            f"device '{device.name}': {device.provider} did not start, the session is on {started}",
            "is its driver installed?",
        )
    return session


def _open_elsewhere(
    model: Path, device: Device, entries: Mapping[str, str], sizes: Sequence[Mapping[str, int]]
) -> Any:  # noqa: ANN401 - an OpenGraph, which callers take for a session
    from edgelr.runners.elsewhere import open_elsewhere

    given = {**_AS_WRITTEN, **device.session.entries, **entries}
    # That is always recorded there, and an entry that is set twice is a warning.
    own = {name: value for name, value in entries.items() if name != _RECORD}
    try:
        return open_elsewhere(model, device, given, lambda: session_options(device, None, own), sizes)
    except _runtime_errors() as error:
        raise _opening_error(model, device, error) from error


def _level(device: Device) -> Any:  # noqa: ANN401 - ONNX Runtime is untyped
    from onnxruntime import GraphOptimizationLevel

    match device.session.graph_optimization_level:
        case "disabled":
            return GraphOptimizationLevel.ORT_DISABLE_ALL
        case "basic":
            return GraphOptimizationLevel.ORT_ENABLE_BASIC
        case "extended":
            return GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        case "all":
            return GraphOptimizationLevel.ORT_ENABLE_ALL


def _runtime_errors() -> tuple[type[Exception], ...]:
    """The exceptions of ONNX Runtime; they have no common base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.EPFail,
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
        RuntimeError,
    )


def _opening_error(model: Path, device: Device, error: Exception) -> EdgelrError:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    text = str(error)
    lacking = isinstance(error, state.NotImplemented | state.EPFail) or _UNSUPPORTED.search(text) is not None
    if lacking and "fallback to CPU EP" in text:
        return UnsupportedModelError(
            f"{model}: {device.provider} cannot take every node, and '{device.name}' forbids any other",
            "give the profile 'fallback: allow', or change the model",
        )
    if lacking:
        return UnsupportedModelError(
            f"{model}: this ONNX Runtime cannot run it on device '{device.name}': {_reason(error)}",
            "update onnxruntime, or export with a lower opset",
        )
    return DamagedArtifactError(
        f"{model} is not a valid ONNX model: {_reason(error)}", "build the package again"
    )


def _reason(error: Exception) -> str:
    """The first line of what ONNX Runtime says, without its codes and C++ signatures."""
    text = _PREFIX.sub("", str(error)).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = re.sub(r"^/\S+:\d+ .*?\) (?=[A-Z])", "", text)
    return text if len(text) <= 300 else text[:297] + "..."
