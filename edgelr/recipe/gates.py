"""The gates of a recipe: limits that a package must keep to be released."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from edgelr.recipe.section import Count, Section

Share = Annotated[float, Field(gt=0, le=1)]
BaselineName = Literal["dense-fp32", "dense-int8"]


class Bound(Section):
    """An upper limit, absolute or as a share of a baseline."""

    max: float | None = Field(None, gt=0)
    max_share_of: BaselineName | None = None
    share: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        _check_limits(self.max, self.max_share_of, self.share)
        return self


class MetricGate(Section):
    """A task metric: no more than ``max_drop`` below the dense model, or within absolute limits.

    Of an error, which is better when it is lower, ``max_rise`` above the dense model.
    """

    metric: str
    max_drop: float | None = Field(None, ge=0)
    max_rise: float | None = Field(None, ge=0)
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        limits = (self.max_drop, self.max_rise, self.min, self.max)
        if sum(limit is not None for limit in limits) != 1:
            raise ValueError("exactly one of max_drop, max_rise, min, max is needed")
        return self


class SizeGate(Section):
    """Size of the whole package, in megabytes (10^6 bytes) or as a share of a baseline's package."""

    size_mb: Bound


class LatencyGate(Section):
    """A latency percentile on a device, in milliseconds or as a share of a baseline of the same run."""

    latency: Literal["p50_ms", "p90_ms", "p99_ms"]
    device: str
    tokens: Count | None = Field(None, description="the length it holds for; left out: all that are measured")
    audio_s: Count | None = Field(None, description="likewise of speech, in seconds")
    max: float | None = Field(None, gt=0)
    max_share_of: BaselineName | None = None
    share: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        _check_limits(self.max, self.max_share_of, self.share)
        return self


class Placed(Section):
    """How much of the work one provider has to take."""

    provider: str = Field(pattern=r"^[A-Za-z]+$", description="without its ending, such as QNN or CoreML")
    min_share: Share = Field(description="of the multiply-accumulates; of the nodes, where there are none")
    max_partitions: Count | None = Field(None, description="parts that the graphs may be cut into")


class PlacementGate(Section):
    """A provider has to take a share of the work, on every device that runs by it."""

    placement: Placed


def _check_limits(absolute: float | None, baseline: str | None, share: float | None) -> None:
    if (baseline is None) != (share is None):
        raise ValueError("'max_share_of' (a baseline) and 'share' (a number) go together")
    if (absolute is None) == (baseline is None):
        raise ValueError("exactly one limit is needed: 'max', or 'max_share_of' with 'share'")


def _gate_kind(value: Any) -> str | None:  # noqa: ANN401 - any YAML
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", ())
    return next((kind for kind in ("metric", "size_mb", "latency", "placement") if kind in keys), None)


Gate = Annotated[
    Annotated[MetricGate, Tag("metric")]
    | Annotated[SizeGate, Tag("size_mb")]
    | Annotated[LatencyGate, Tag("latency")]
    | Annotated[PlacementGate, Tag("placement")],
    Discriminator(_gate_kind),
]
