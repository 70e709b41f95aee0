"""An ARM64 processor: ONNX Runtime's own ARM64 wheel, run instruction by instruction by qemu.

What it computes is what that processor computes, with the kernels that ONNX Runtime chooses for it; how long
it takes says nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgelr.device.prepared import QEMU, find_program, prepared_folder
from edgelr.device.schema import Device
from edgelr.errors import MissingRequirementError
from edgelr.runners.piped import PipedProcess, open_request
from edgelr.runners.remote import RemoteGraph

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
    qemu = find_program(QEMU)
    if qemu is None:
        raise MissingRequirementError(f"{QEMU[0]} is not installed", "scripts/prepare_arm64")
    root = prepared_folder("arm64") / "root"
    folder = _system(root, device.processor or "max")
    site, own = root / "opt" / "site", Path(__file__).resolve().parents[2]
    command = [
        *(qemu, "-L", str(folder), "-cpu", device.processor or "max"),
        *("-E", f"PYTHONPATH={site}:{own}", "-E", "PYTHONDONTWRITEBYTECODE=1", "-E", "OMP_NUM_THREADS=1"),
        *(str(root / "usr" / "bin" / "python3"), "-m", "edgelr.runners.graph_worker"),
    ]
    process = PipedProcess(device, command, folder, hint="run scripts/prepare_arm64 again")
    told, _ = process.ask({**open_request(device, entries), "model": str(model.resolve())}, {})
    return RemoteGraph(process.ask, told)


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
