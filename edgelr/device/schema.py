"""What a device profile says: a YAML file under ``devices/``, or next to the recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Evidence = Literal["run", "emulated", "static"]
Precision = Literal["fp32", "int8-dynamic", "int8-static", "a16w8", "weight-int8", "weight-int4", "fp16"]


class Section(BaseModel):
    """A part of a profile: unknown keys are faults, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Session(Section):
    """ONNX Runtime session options."""

    graph_optimization_level: Literal["disabled", "basic", "extended", "all"] = "all"
    entries: dict[str, str] = Field(
        default_factory=dict, description="session config entries, as ONNX Runtime names them"
    )


class Device(Section):
    """Where a package is run: provider, threads, session options, and how good the evidence is.

    ``threads`` 0 means every core of the host.
    """

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
    threads: int = Field(1, ge=0, le=1024, description="0 is every core of the host")
    session: Session = Session()
    accepts: tuple[Precision, ...] = Field(("fp32",), min_length=1)
    fallback: Literal["forbid", "allow"] = "forbid"
