"""The section ``compare`` of a recipe: what ``edgelr compare`` accepts, and how long it may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from edgelr.metrics import METRICS
from edgelr.recipe.section import Count, Section

Change = Annotated[float, Field(gt=0, lt=1)]

TIMED = ("p90", "first_call", "load", "memory")
PARTS = {
    "translation": ("first_token", "encoder", "decoder"),
    "automatic-speech-recognition": ("features", "encoder", "decoder"),
}
"""Of a task whose call runs several graphs: what else is timed in it."""
LIMITED = tuple(
    dict.fromkeys(name for names in (TIMED, ("bytes",), *PARTS.values(), *METRICS.values()) for name in names)
)
"""Everything that may have a limit of its own; of p50 it is the tolerance."""


class Compare(Section):
    """The latency check of this package against another one, see ``edgelr compare``."""

    tolerance: Change = Field(0.05, description="accepted slowdown of the median, a share: 0.05 is 5 %")
    budget_s: float = Field(
        60.0,
        ge=1,
        le=3600,
        description="time for the answer; confirming a regression takes half as much again",
    )
    tokens: Count = Field(128, description="length of the text that packages are timed with")
    audio_s: Count = Field(5, description="of speech: seconds of sound")
    limits: dict[str, Change] = Field(
        {},
        description="what else must not get worse by more than this share of the base's: "
        + ", ".join(LIMITED),
    )

    @field_validator("limits")
    @classmethod
    def _known(cls, limits: dict[str, Change]) -> dict[str, Change]:
        if unknown := [name for name in limits if name not in LIMITED]:
            raise ValueError(f"{unknown[0]!r} has no limit; known are {', '.join(LIMITED)}")
        return limits
