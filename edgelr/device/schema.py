"""What a device profile says, as the rest of edgelr knows it; ``profile.py`` checks the files that say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Evidence = Literal["run", "emulated", "static"]
Runner = Literal["in-process", "qnn", "arm64", "web", "ssh"]
Precision = Literal["fp32", "int8-dynamic", "int8-static", "a16w8", "weight-int8", "weight-int4", "fp16"]
Level = Literal["disabled", "basic", "extended", "all"]
# Options of providers that ask for a CUDA graph.
_CAPTURING = ("enable_cuda_graph", "trt_cuda_graph_enable")


@dataclass(frozen=True, kw_only=True)
class Session:
    """ONNX Runtime session options.

    Attributes:
        graph_optimization_level: How much ONNX Runtime changes a graph.
        entries: Session config entries, as ONNX Runtime names them.
    """

    graph_optimization_level: Level = "all"
    entries: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where a package is run: provider, threads, session options, and how good the evidence is.

    Attributes:
        edgelr: The format.
        name: As the file is called.
        title: What a person calls the device.
        provider: As ONNX Runtime names it, such as ``CPUExecutionProvider``.
        evidence: With ``static`` nothing is run, whatever the runner.
        runner: How a graph is run: by ONNX Runtime here, by the QNN plug-in and its simulator, by an emulated
            ARM64 processor, in a browser, on another machine over ssh.
        processor: Of runner ``arm64``: the processor, as qemu names it.
        host: Of runner ``ssh``: the machine, as ssh takes it.
        python: Of runner ``ssh``: its Python, which has numpy and onnxruntime.
        options: Of the provider, as it names them.
        shapes: ``fixed``: hardware that takes no axis whose size is open; one graph a size.
        threads: 0 is every core of the host.
        session: Its options.
        accepts: What a package may be.
        floats: What it computes fp32 in; with ``fp16`` its results are as exact as those of half precision.
        fallback: May nodes run on another provider?
    """

    edgelr: Literal[1]
    name: str
    title: str
    provider: str
    evidence: Evidence
    runner: Runner = "in-process"
    processor: str | None = None
    host: str | None = None
    python: str = "python3"
    options: dict[str, str] = field(default_factory=dict)
    shapes: Literal["any", "fixed"] = "any"
    threads: int = 1
    session: Session = Session()
    accepts: tuple[Precision, ...] = ("fp32",)
    floats: Literal["fp32", "fp16"] = "fp32"
    fallback: Literal["forbid", "allow"] = "forbid"

    @property
    def timed(self) -> bool:
        """Whether times of a graph are the device's own: not where it is simulated, or behind a network."""
        return self.evidence == "run" and self.runner == "in-process"

    @property
    def captures(self) -> bool:
        """Whether an option of its provider asks for a CUDA graph."""
        return any(self.options.get(name, "0").lower() in {"1", "true"} for name in _CAPTURING)
