"""This host: what it is, and which device profiles it can run."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from edgelr.device.nvidia import count_gpus
from edgelr.device.prepared import Missing, missing
from edgelr.device.schema import Device
from edgelr.errors import MissingRequirementError

OPENVINO = "OpenVINOExecutionProvider"
NVIDIA = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
# One provider, one build of ONNX Runtime: two of them installed together hide each other.
_COMMANDS = {
    "CUDAExecutionProvider": "pip uninstall -y onnxruntime && pip install onnxruntime-gpu",
    "TensorrtExecutionProvider": "pip uninstall -y onnxruntime && pip install onnxruntime-gpu",
    OPENVINO: "pip uninstall -y onnxruntime && pip install onnxruntime-openvino",
    "DmlExecutionProvider": "pip uninstall -y onnxruntime && pip install onnxruntime-directml",
    "QNNExecutionProvider": "pip install onnxruntime-qnn, and give the profile 'runner: qnn'",
}


def describe_host() -> dict[str, str | int]:
    """What this host is, for reports: processor, usable cores, memory in bytes, system, versions."""
    import onnxruntime

    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": str(onnxruntime.__version__),
    }


def host_state() -> dict[str, float | str]:
    """What this host does now, as far as it says: load of the last minute, clock and its governor, heat."""
    found: dict[str, float | str] = {}
    if hasattr(os, "getloadavg"):
        found["load_1min"] = round(os.getloadavg()[0], 2)
    if governor := _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"):
        found["governor"] = governor
    if mhz := _clock_mhz():
        found["clock_mhz"] = mhz
    if (millidegrees := _read("/sys/class/thermal/thermal_zone0/temp")).lstrip("-").isdecimal():
        found["temperature_c"] = int(millidegrees) / 1000
    return found


def host_fingerprint() -> str:
    """16 hex digits that change when anything changes that measured times depend on."""
    text = json.dumps(describe_host(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_used(device: Device, cores: int | None = None) -> int:
    """Threads that a session on ``device`` computes with: what the profile asks for, at most the cores.

    Args:
        device: The profile; its 0 threads mean every core.
        cores: Usable cores; those of this host when None.
    """
    cores = usable_cores() if cores is None else cores
    return min(device.threads, cores) if device.threads else cores


def threads_note(device: Device, cores: int | None = None) -> str | None:
    """A note for the report when the host has fewer cores than the profile asks for; else None."""
    cores = usable_cores() if cores is None else cores
    if device.threads <= cores:
        return None
    return f"{device.name} asks for {device.threads} threads, this host has {cores}: timings are with {cores}"


def availability(device: Device) -> tuple[bool, str]:
    """Whether a profile can run on this host.

    Returns:
        (True, "") when it can; else False with the reason and the command that helps, where there is one. A
        profile with ``static`` evidence is analyzed only and never runs, which is no fault: see ``require``.
    """
    if device.evidence == "static":
        return False, "graph analysis only, nothing is run (evidence: static)"
    lacking = _lacking(device)
    return (True, "") if lacking is None else (False, f"{lacking.what}; {lacking.command}")


def require(device: Device) -> None:
    """Make sure that ``device`` can be used: what it runs with is installed, or nothing of it is run.

    Raises:
        MissingRequirementError: Its provider or its emulator is not installed; the hint is the command.
    """
    if device.evidence == "static":
        return
    lacking = _lacking(device)
    if lacking is not None:
        raise MissingRequirementError(f"device '{device.name}': {lacking.what}", lacking.command)


def _lacking(device: Device) -> Missing | None:
    """What a device runs with that is not here; None when it can run."""
    if device.runner != "in-process":
        return missing(device)  # what has a runner of its own brings its provider
    import onnxruntime

    if device.provider in onnxruntime.get_available_providers():
        return _lacking_hardware(device)
    return Missing(f"{device.provider} is not in this ONNX Runtime", _remedy(device.provider))


def _lacking_hardware(device: Device) -> Missing | None:
    """What a provider of this ONNX Runtime does not find on this host; None where that is not known."""
    if device.provider in NVIDIA:
        if count_gpus():
            return None
        return Missing(
            "NVIDIA's driver is not here, or finds no GPU",
            "install the driver; nvidia-smi then lists the GPU",
        )
    return _lacking_openvino(device) if device.provider == OPENVINO else None


def _lacking_openvino(device: Device) -> Missing | None:
    """What OpenVINO does not find; its build of ONNX Runtime lists it only when it is asked."""
    from onnxruntime.capi import _pybind_state

    found: list[str] = _pybind_state.get_available_openvino_device_ids()
    # AUTO:GPU,CPU and the like name several; of several of a kind OpenVINO numbers each: GPU.0.
    wanted = device.options.get("device_type", "CPU").rpartition(":")[2].split(",")
    absent = [name for name in wanted if name != "AUTO" and name not in {*found, *_kinds(found)}]
    if not absent:
        return None
    return Missing(
        f"OpenVINO finds no {' and no '.join(absent)} here, only {', '.join(found)}",
        "install its driver, or give the profile 'evidence: static' to analyze only",
    )


def _kinds(names: Sequence[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def _remedy(provider: str) -> str:
    import onnxruntime

    known = {_short(name): name for name in onnxruntime.get_all_providers()}
    if provider not in known.values():
        close = difflib.get_close_matches(_short(provider), known, n=1)
        return (
            f"did you mean {known[close[0]]}?" if close else f"ONNX Runtime knows {', '.join(known.values())}"
        )
    if provider in _COMMANDS:
        return _COMMANDS[provider]
    return (
        "no wheel of ONNX Runtime for this system has it; give the profile 'evidence: static' to analyze only"
    )


def _short(provider: str) -> str:
    # The common ending would make all names look alike.
    return provider.removesuffix("ExecutionProvider").lower()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    text = path.read_text(errors="replace") if path.is_file() else ""
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def _clock_mhz() -> float:
    """Of the fastest core now; 0 where the system does not say."""
    current = [
        _read(str(path)) for path in Path("/sys/devices/system/cpu").glob("cpu*/cpufreq/scaling_cur_freq")
    ]
    if khz := [int(text) for text in current if text.isdecimal()]:
        return max(khz) / 1e3
    found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return max(map(float, found), default=0.0)


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0  # not known on this system
