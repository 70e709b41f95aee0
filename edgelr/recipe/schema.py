"""What a recipe may say: strict, frozen models; every default of the project lives here.

Every section is data. A field's description is its documentation: ``edgelr schema`` prints them for editors.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        description="at most 64 lower-case letters, digits, '.', '_' and '-', the first a letter or digit",
    ),
]
Budget = Literal["parameters", "bytes", "macs"]
Factors = Literal["plain", "whitened"]
Allocation = Literal["uniform", "energy", "sensitivity"]
BaselineName = Literal["dense-fp32", "dense-int8"]


class Section(BaseModel):
    """A part of a recipe: unknown keys are faults, values are not coerced, nothing changes afterwards."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False
    )


# --- task -----------------------------------------------------------------------------------------


class PythonDocs(Section):
    """Python's own documentation, read from what is installed: docstrings and the topics of ``pydoc``."""

    source: Literal["python-docs"]
    packages: tuple[Name, ...] = Field(
        ("stdlib", "numpy"), min_length=1, description="where to look; 'stdlib' is Python itself"
    )
    hold_out: tuple[str, ...] = Field((), description="globs of modules that are test data in any case")
    train: Count = Field(6000, description="texts to tune on")
    validation: Count = Field(200, description="pairs to pick the best checkpoint on")
    test: Count = Field(500, description="pairs to validate on; they travel in the package")


class PairsFile(Section):
    """Your own pairs: JSONL (``{"query", "passage", "group"?, "id"?}``) or TSV (query, passage, group?)."""

    source: Literal["file"]
    path: str = Field(description="a .jsonl or .tsv file next to the recipe")
    train: Count = 6000
    validation: Count = 200
    test: Count = 500


class SentenceEmbedding(Section):
    """Texts to vectors that can be compared by their cosine."""

    type: Literal["sentence-embedding"]
    data: Annotated[PythonDocs | PairsFile, Field(discriminator="source")]
    max_tokens: int = Field(
        128, ge=8, le=8192, description="longer texts are cut, in tuning and in the package"
    )


# --- model ----------------------------------------------------------------------------------------


class Model(Section):
    """The dense model."""

    path: str = Field(min_length=1, description="a folder next to the recipe, or a hub id such as 'org/name'")
    package: str | None = Field(None, description="installed Python package that path is inside")
    revision: str | None = Field(None, description="commit, tag or branch of a hub id")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.package is not None and self.revision is not None:
            raise ValueError("'package' and 'revision' exclude each other: a revision belongs to a hub id")
        return self


# --- compress -------------------------------------------------------------------------------------


class Keep(Section):
    """The budget: exactly one share, of what the factorable sites cost when dense."""

    parameters: Share | None = Field(None, description="share of the sites' parameters to keep")
    bytes: Share | None = Field(
        None, description="share of the sites' bytes to keep, at the recipe's precision"
    )
    macs: Share | None = Field(None, description="share of the sites' multiply-accumulates to keep")

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in ("parameters", "bytes", "macs") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "exactly one budget is needed (parameters, bytes or macs), "
                f"found {' and '.join(given) or 'none'}"
            )
        return self

    @property
    def budget(self) -> tuple[Budget, float]:
        """The one budget given, as (name, share)."""
        if self.parameters is not None:
            return "parameters", self.parameters
        if self.bytes is not None:
            return "bytes", self.bytes
        assert self.macs is not None
        return "macs", self.macs


class Calibration(Section):
    """The texts that statistics and sensitivities are measured on."""

    examples: Count = Field(512, description="examples behind the input statistics")
    sensitivity_examples: Count = Field(64, description="of these, how many measure the sensitivities")


class Compress(Section):
    """How the weight matrices are factored."""

    keep: Keep
    factors: Factors = Field(
        "whitened", description="plain SVD of the weight, or activation-aware (output PCA)"
    )
    allocate: Allocation = Field("sensitivity", description="how the budget is shared among the sites")
    rank_multiple: int = Field(16, ge=1, le=256, description="ranks are multiples of this")
    include: tuple[str, ...] = Field(("*",), min_length=1, description="globs of sites to factor")
    exclude: tuple[str, ...] = Field((), description="globs of sites to leave dense")
    calibration: Calibration = Calibration()  # type: ignore[call-arg]


# --- finetune -------------------------------------------------------------------------------------


class Distill(Section):
    """Weights of the distillation losses; the dense model is the teacher."""

    embedding: Weight = Field(1.0, description="1 - cosine of the embeddings")
    similarity: Weight = Field(1.0, description="mean squared error of the batch's similarity matrix")
    hidden: Weight = Field(1.0, description="relative mean squared error of the hidden states of every layer")


class Finetune(Section):
    """Tuning of the factors on the task."""

    steps: Count = Field(description="optimizer steps, at most")
    batch: int = Field(32, ge=2, description="texts a step")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the tuning's arithmetic; auto is bf16 where the hardware has it"
    )
    learning_rate: float = Field(1.0e-3, gt=0, lt=1)
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps with a rising learning rate")
    weight_decay: Weight = 0.01
    clip_norm: float = Field(1.0, gt=0, description="largest gradient norm")
    distill: Distill = Distill()  # type: ignore[call-arg]
    task_loss: Weight = Field(0.0, description="weight of the contrastive loss on (query, passage) pairs")
    validate_every: Count = Field(50, description="steps between validations; the best checkpoint wins")
    patience: Count = Field(5, description="validations without a better result before tuning stops early")
    checkpoint_every: Count = Field(50, description="steps between checkpoints; a killed run resumes")


# --- export, quantize -----------------------------------------------------------------------------


class Export(Section):
    """How the ONNX graph is written."""

    opset: int = Field(20, ge=18, le=23)
    tolerance: float = Field(
        2.0e-4, gt=0, description="largest absolute difference of torch and ONNX outputs"
    )


class Quantize(Section):
    """How the exported graph is quantized."""

    scheme: Literal["int8-dynamic"]
    min_cosine: float = Field(
        0.98, gt=0, le=1, description="mean cosine to the fp32 graph, or the stage fails"
    )


# --- validate -------------------------------------------------------------------------------------


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
    """A task metric: no more than ``max_drop`` below the dense model, or within absolute limits."""

    metric: str
    max_drop: float | None = Field(None, ge=0)
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if sum(limit is not None for limit in (self.max_drop, self.min, self.max)) != 1:
            raise ValueError("exactly one of max_drop, min, max is needed")
        return self


class SizeGate(Section):
    """Size of the whole package, in megabytes (10^6 bytes) or as a share of a baseline's package."""

    size_mb: Bound


class LatencyGate(Section):
    """A latency percentile on a device, in milliseconds or as a share of a baseline of the same run."""

    latency: Literal["p50_ms", "p90_ms", "p99_ms"]
    device: str
    tokens: Count | None = Field(None, description="the length it holds for; left out: all that are measured")
    max: float | None = Field(None, gt=0)
    max_share_of: BaselineName | None = None
    share: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        _check_limits(self.max, self.max_share_of, self.share)
        return self


def _check_limits(absolute: float | None, baseline: str | None, share: float | None) -> None:
    if (baseline is None) != (share is None):
        raise ValueError("'max_share_of' (a baseline) and 'share' (a number) go together")
    if (absolute is None) == (baseline is None):
        raise ValueError("exactly one limit is needed: 'max', or 'max_share_of' with 'share'")


def _gate_kind(value: Any) -> str | None:  # noqa: ANN401 - any YAML
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", ())
    return next((kind for kind in ("metric", "size_mb", "latency") if kind in keys), None)


Gate = Annotated[
    Annotated[MetricGate, Tag("metric")]
    | Annotated[SizeGate, Tag("size_mb")]
    | Annotated[LatencyGate, Tag("latency")],
    Discriminator(_gate_kind),
]


class Validation(Section):
    """What is measured, and what must hold for a package to be released."""

    devices: tuple[str, ...] = Field(
        ("cpu-1t",), min_length=1, description="device profiles, see 'edgelr devices'"
    )
    baselines: tuple[BaselineName, ...] = Field(
        ("dense-fp32", "dense-int8"), description="always measured next to the candidate"
    )
    tokens: tuple[Count, ...] = Field(
        (16, 64, 128), min_length=1, description="input lengths to time, batch 1"
    )
    seconds: float = Field(20.0, gt=0, le=600, description="measuring time a device, all variants together")
    gates: tuple[Gate, ...] = ()


class Recipe(Section):
    """One build, from a dense model to a validated package."""

    edgelr: Literal[1] = Field(description="recipe format")
    name: Name
    seed: int = Field(0, ge=0, lt=2**32)
    task: SentenceEmbedding
    model: Model
    compress: Compress
    finetune: Finetune | None = None
    export: Export = Export()  # type: ignore[call-arg]
    quantize: Quantize | None = None
    validation: Validation = Field(Validation(), alias="validate")  # type: ignore[call-arg]
