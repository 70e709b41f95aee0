"""Qualcomm's NPU through the plug-in of onnxruntime-qnn, which simulates it on an x86-64 host.

A graph is compiled for one chip and for fixed sizes. Nothing may fall back to the CPU silently: every node's
place is looked at, whatever ONNX Runtime lists.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelr.device.schema import Device
from edgelr.errors import MissingRequirementError, UnsupportedModelError, UsageError
from edgelr.runners.fixed import FixedShapes, Sizes
from edgelr.runners.protocol import Entry

if TYPE_CHECKING:
    import onnxruntime

PROVIDER = "QNNExecutionProvider"
_SHOWN = 5
_MADE_FOR = "edgelr.soc_model"  # what a compiled file says of its chip
# Names that onnxruntime-qnn 2.7 takes; for any other it compiles for the oldest chip, and only its log
# says so.
CHIPS = ("SC8380XP", "SM8350", "SM8450", "SM8475", "SM8550", "SM8650", "SM8750", "SM8850")


def open_qnn(
    model: Path,
    device: Device,
    options: Any,  # noqa: ANN401 - ONNX Runtime is untyped
    sizes: Sequence[Sizes],
    inputs: Sequence[Entry],
    outputs: Sequence[Entry],
) -> FixedShapes:
    """Open a graph on the NPU, at each of the sizes when it is first needed.

    Args:
        model: The ONNX file.
        device: The profile; its options are the provider's.
        options: Makes session options, a new one each call.
        sizes: Axis -> size, smallest first.
        inputs: Of the graph.
        outputs: Of the graph.

    Raises:
        MissingRequirementError: The plug-in does not start.
        UnsupportedModelError: The NPU does not take the graph, or not all of it.
        UsageError: The profile's chip is unknown.
    """
    devices = _npus()

    def open_at(chosen: Sizes) -> onnxruntime.InferenceSession:
        return _open(model, device, options(), chosen, devices)

    return FixedShapes(inputs, outputs, sizes or ({},), open_at)


def write_context(model: Path, device: Device, options: Callable[[], Any], sizes: Sizes, target: Path) -> int:
    """Compile a graph for a chip ahead of time, so that an app on that chip loads it at once.

    Args:
        model: The ONNX file.
        device: Its option ``soc_model`` names the chip.
        options: Makes session options, new ones each call.
        sizes: Of every open axis.
        target: An ONNX file that holds what was compiled, and says for which chip.

    Returns:
        Bytes of it.

    Raises:
        MissingRequirementError: The plug-in does not start.
        UnsupportedModelError: The NPU does not take the graph, or not what was compiled of it.
    """
    import onnx

    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    writing = options()
    for name, value in {"enable": "1", "embed_mode": "1", "file_path": str(target)}.items():
        writing.add_session_config_entry(f"ep.context_{name}", value)
    _open(model, device, writing, sizes, _npus())
    compiled = onnx.load(target)
    onnx.helper.set_model_props(compiled, {_MADE_FOR: _chip(device)})
    onnx.save(compiled, target)
    _open(target, device, options(), {}, _npus())  # what cannot be loaded again is found out now
    return target.stat().st_size


def chip_name(device: Device) -> str:
    """Name of the folder of what is compiled for a device's chip, such as ``sm8550``.

    Args:
        device: A profile with ``runner: qnn``.
    """
    chip = _chip(device)
    return device.name.removeprefix("qnn-") if chip.isdecimal() else chip.lower()


def _chip(device: Device) -> str:
    return device.options.get("soc_model", "")


def _check_chip(device: Device) -> None:
    chip = _chip(device)
    if chip not in CHIPS and not chip.isdecimal():
        raise UsageError(
            f"device '{device.name}': onnxruntime-qnn knows no chip {chip!r} and would compile for another",
            f"it knows {', '.join(CHIPS)}, and Qualcomm's numbers of chips",
        )


def _check_made_for(model: Path, device: Device) -> None:
    """The simulator loads what is compiled for any chip, and a phone may too and compute something else."""
    import onnx

    proto = onnx.load(model, load_external_data=False)
    if not any(node.op_type == "EPContext" for node in proto.graph.node):
        return
    made_for = next((entry.value for entry in proto.metadata_props if entry.key == _MADE_FOR), None)
    if made_for != _chip(device):
        raise UnsupportedModelError(
            f"{model} was compiled for {made_for or 'a chip that it does not name'}, "
            f"'{device.name}' is {_chip(device)}",
            f"take the file in qnn/{chip_name(device)}/, or build with --device {device.name}",
        )


def _open(model: Path, device: Device, options: Any, sizes: Sizes, npus: Sequence[Any]) -> Any:  # noqa: ANN401
    import onnxruntime
    import onnxruntime_qnn

    _check_chip(device)
    _check_made_for(model, device)
    for axis, size in sizes.items():
        options.add_free_dimension_override_by_name(axis, size)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    given: Mapping[str, str] = {
        "backend_path": onnxruntime_qnn.get_qnn_htp_path(),
        "offload_graph_io_quantization": "0",  # else the last and the first operator go to the CPU
        **device.options,
    }
    options.add_provider_for_devices(list(npus), dict(given))
    session = onnxruntime.InferenceSession(model, options)
    elsewhere = [
        f"{node.op_type} {node.name}"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != PROVIDER
        for node in part.get_nodes()
    ]
    if elsewhere and device.fallback == "forbid":
        more = f" and {len(elsewhere) - _SHOWN} more" if len(elsewhere) > _SHOWN else ""
        raise UnsupportedModelError(
            f"{model}: {', '.join(elsewhere[:_SHOWN])}{more} fell back to the CPU, which "
            f"'{device.name}' forbids",
            "export.operators: plain and quantize.scheme: a16w8 give a graph that the NPU takes whole",
        )
    return session


def _npus() -> list[Any]:
    """The devices of the plug-in, registered at the first call."""
    import onnxruntime
    import onnxruntime_qnn

    _load_sound_library()

    def found() -> list[Any]:
        return [each for each in onnxruntime.get_ep_devices() if each.ep_name == PROVIDER]

    if not found():
        try:
            onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
        except RuntimeError as error:
            raise MissingRequirementError(
                f"{PROVIDER} does not start: {error}", "pip install --force-reinstall onnxruntime-qnn"
            ) from error
    return found()


def _load_sound_library() -> None:
    """Before the simulator: loaded after it, libsndfile ends the process at the first sound that it opens."""
    with contextlib.suppress(ImportError, OSError):  # whoever reads a sound will say that it is not there
        import soundfile  # noqa: F401
