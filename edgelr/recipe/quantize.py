"""The recipe's section quantize: which layer becomes what, and what that may cost."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from edgelr.recipe.section import Section

Scheme = Literal["int8-dynamic", "int8-static", "a16w8", "weight-int8", "weight-int4", "fp16"]
LayerScheme = Literal["int8-dynamic", "int8-static", "a16w8", "weight-int8", "weight-int4", "fp16", "fp32"]
Rounding = Literal["plain", "hqq", "compensated"]
Auto = Literal["auto"]
# What auto chooses from. Not fp16, which is for all that flows in a graph, nor a16w8, which is for hardware
# that cannot be timed here. Of schemes of as many bytes the one that loses less comes first.
TIMED: tuple[LayerScheme, ...] = ("int8-dynamic", "int8-static", "weight-int8", "weight-int4", "fp32")


class MaxDrop(Section):
    """What quantization may cost: layers stay at higher precision until the loss is within it."""

    metric: str = Field(description="a metric of the task, on the validation data")
    value: float = Field(ge=0, description="what it may lose against the fp32 package")


class Quantize(Section):
    """How the exported graph is quantized."""

    scheme: Literal[Scheme, Auto] = Field(
        description="int8-dynamic: int8 weights and activations; int8-static: likewise, calibrated; a16w8: "
        "16-bit activations, for NPUs; weight-int8, weight-int4: blocks of weights with a scale each, for "
        "what is bound by bytes, such as decoding; fp16: half precision; auto: for each layer, whichever of "
        "these (but fp16 and a16w8) or fp32 is measured as fastest on the first device that can be timed"
    )
    layers: dict[str, LayerScheme] = Field(
        default_factory=dict,
        description="glob of layers -> their scheme, or fp32; the first that matches a layer counts",
    )
    block_size: Literal[16, 32, 64, 128, 256] = Field(
        32,
        description="weights that share a scale, of weight-int8, weight-int4 and vocabulary, at most: fewer "
        "where rows are shorter; for one token a call 128 is a fifth faster than 32, less exact in 4 bits",
    )
    rounding: Rounding = Field(
        "compensated",
        description="of weight-int8 and weight-int4: plain; hqq: scales and zero points that suit most of a "
        "block; compensated: hqq, and 4-bit weights make up for each other's errors on calibration data, "
        "where there is any",
    )
    vocabulary: Literal["int8", "int4"] | None = Field(
        None,
        description="blocks for tables of tokens, and the head that shares one, with any scheme but fp16; "
        "left out: int8 with weight-int8 and weight-int4; a scale a row, by standard operators, with others",
    )
    calibration: Literal["minmax", "entropy", "percentile"] = Field(
        "minmax", description="how int8-static and a16w8 find the range of an activation on calibration data"
    )
    activations: Literal["kept", "relu"] = Field(
        "kept",
        description="relu: in place of GELU between two products, which are fitted to that on calibration "
        "data; int8 products then are a larger part of the time",
    )
    max_drop: MaxDrop | None = Field(
        None, description="keep the layers that cost most at higher precision until the loss is within this"
    )
    min_cosine: float = Field(
        0.98, gt=0, le=1, description="mean cosine to the fp32 graph, or the stage fails"
    )

    @model_validator(mode="after")
    def _has_blocks(self) -> Self:
        if self.scheme == "fp16" and self.vocabulary is not None:
            raise ValueError("fp16 has no blocks for 'vocabulary'; take it out, tables are fp16 as well")
        return self

    @property
    def schemes(self) -> tuple[LayerScheme, ...]:
        """Everything that a layer may become; of auto only what does not depend on a device."""
        if self.scheme == "auto":
            return tuple(dict.fromkeys((*self.layers.values(), *self.higher)))
        return tuple(dict.fromkeys((self.scheme, *self.layers.values(), *self.higher)))

    @property
    def higher(self) -> tuple[LayerScheme, ...]:
        """What accuracy control may keep a layer at, fewest bytes first; nothing when it is not asked for."""
        if self.max_drop is None:
            return ()
        return ("weight-int8", "fp32") if self.scheme in ("weight-int4", "auto") else ("fp32",)


def needs_data(settings: Quantize) -> bool:
    """Whether quantization has to look at calibration data."""
    if settings.scheme == "auto" or settings.activations == "relu":
        return True  # how many rows a layer multiplies, data tells
    return bool({"int8-static", "a16w8", "fp16"} & set(settings.schemes)) or settings.max_drop is not None
