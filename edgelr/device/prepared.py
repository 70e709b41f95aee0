"""What running a graph elsewhere than in this process needs, and the one command that brings it.

An emulated processor and a browser are prepared once, by a script, in a folder of the user's cache; the
plug-in of an NPU is a wheel.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple, assert_never

from edgelr.device.schema import Device

QEMU = ("qemu-aarch64-static", "qemu-aarch64")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FOLDER = "EDGELR_PREPARED"
"""Environment variable: where the scripts put what they prepare, in place of the user's cache."""


class Missing(NamedTuple):
    """What is not here, and the command that helps."""

    what: str
    command: str


def prepared_folder(name: str) -> Path:
    """Where ``scripts/prepare_<name>`` puts what a runner needs.

    Args:
        name: ``arm64`` or ``web``.
    """
    given = os.environ.get(FOLDER)
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(given) if given else cache_folder / "edgelr") / name


def missing(device: Device) -> Missing | None:
    """What the runner of a device lacks on this host; None when it can start.

    Args:
        device: The profile; one with static evidence lacks nothing, as nothing is run.
    """
    if device.evidence == "static":
        return None
    match device.runner:
        case "in-process":
            return None
        case "qnn":
            return _missing_qnn()
        case "arm64":
            return _missing_arm64(device.processor or "")
        case "web":
            return _missing_web()
        case "ssh":
            # Whether the machine answers is found out when it is used, not by a list.
            installed = find_program(("ssh",)) is not None
            return None if installed else Missing("ssh is not installed", "apt-get install openssh-client")
        case _:
            assert_never(device.runner)


def find_program(names: tuple[str, ...]) -> str | None:
    """The path of the first of these programs that is installed."""
    return next((found for name in names if (found := shutil.which(name))), None)


def _missing_qnn() -> Missing | None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return Missing(
            "the simulator of Qualcomm's NPU runs on x86-64 Linux only",
            "use such a host, or a profile with evidence: run",
        )
    if importlib.util.find_spec("onnxruntime_qnn") is None:
        return Missing("onnxruntime-qnn is not installed", "pip install onnxruntime-qnn")
    return None


def _missing_arm64(processor: str) -> Missing | None:
    qemu = find_program(QEMU)
    if qemu is None:
        return Missing(f"{QEMU[0]} is not installed", "scripts/prepare_arm64")
    if processor.partition(",")[0] not in _processors(qemu):  # after a comma: what it lacks
        return Missing(f"{qemu} knows no processor {processor!r}", "install a newer qemu-user-static")
    if not (prepared_folder("arm64") / "ready").is_file():
        return Missing(f"there is no ARM64 system in {prepared_folder('arm64')}", "scripts/prepare_arm64")
    return None


def _missing_web() -> Missing | None:
    if find_program(BROWSERS) is None:
        return Missing("no Chromium is installed", "scripts/prepare_web")
    if not (prepared_folder("web") / "ready").is_file():
        return Missing(f"there is no onnxruntime-web in {prepared_folder('web')}", "scripts/prepare_web")
    return None


@cache
def _processors(qemu: str) -> frozenset[str]:
    done = subprocess.run([qemu, "-cpu", "help"], capture_output=True, text=True, check=False)
    return frozenset(line.strip() for line in done.stdout.splitlines())
