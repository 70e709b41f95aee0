"""What the YAML file of a device profile may say: the fields of ``Device``, with their limits."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgelr.device.schema import Device, Evidence, Level, Precision, Runner
from edgelr.typed import typed


class Section(BaseModel):
    """A part of a profile: unknown keys are faults, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SessionSection(Section):
    """ONNX Runtime session options."""

    graph_optimization_level: Level = "all"
    entries: dict[str, str] = Field(
        default_factory=dict, description="session config entries, as ONNX Runtime names them"
    )


class Profile(Section):
    """The fields of ``Device``, and what they may be."""

    edgelr: Literal[1]
    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        description="as the file is called; lower-case letters, digits, '.', '_' and '-'",
    )
    title: str = Field(min_length=1, description="what a person calls the device")
    provider: str = Field(
        pattern=r"^[A-Za-z]+ExecutionProvider$",
        description="as ONNX Runtime names it, such as CPUExecutionProvider",
    )
    evidence: Evidence
    runner: Runner = Field(
        "in-process",
        description="how a graph is run: by ONNX Runtime here, by the QNN plug-in and its simulator, by an "
        "emulated ARM64 processor, in a browser, on another machine over ssh",
    )
    processor: str | None = Field(
        None, min_length=1, description="of runner arm64: the processor, as qemu names it"
    )
    host: str | None = Field(
        None, pattern=r"^\w[\w@.:%-]*$", description="of runner ssh: the machine, as ssh takes it"
    )
    python: str = Field(
        "python3", min_length=1, description="of runner ssh: its Python, which has numpy and onnxruntime"
    )
    options: dict[str, str] = Field(default_factory=dict, description="of the provider, as it names them")
    shapes: Literal["any", "fixed"] = Field(
        "any", description="fixed: hardware that takes no axis whose size is open; one graph a size"
    )
    threads: int = Field(1, ge=0, le=1024, description="0 is every core of the host")
    session: SessionSection = SessionSection()
    accepts: tuple[Precision, ...] = Field(("fp32",), min_length=1)
    floats: Literal["fp32", "fp16"] = Field(
        "fp32",
        description="what it computes fp32 in; fp16: its results are as exact as those of half precision",
    )
    fallback: Literal["forbid", "allow"] = "forbid"

    @model_validator(mode="after")
    def _one_processor(self) -> Self:
        if (self.runner == "arm64") != (self.processor is not None):
            raise ValueError("'processor' and 'runner: arm64' go together")
        if (self.runner == "ssh") != (self.host is not None):
            raise ValueError("'host' and 'runner: ssh' go together")
        if self.evidence == "run" and self.runner not in {"in-process", "ssh"}:
            raise ValueError(f"'runner: {self.runner}' simulates: its evidence is emulated")
        if self.device().captures and self.shapes != "fixed":
            raise ValueError("an option asks for a CUDA graph, which has 'shapes: fixed'")
        return self

    def device(self) -> Device:
        """What it says."""
        return typed(Device, self.model_dump())
