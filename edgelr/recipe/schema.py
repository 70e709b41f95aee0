"""What a recipe may say: strict, frozen models; every default of the project lives here.

Every section is data. A field's description is its documentation: ``edgelr schema`` prints them for editors.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from edgelr.recipe.compare import Compare
from edgelr.recipe.gates import BaselineName, Gate
from edgelr.recipe.quantize import Quantize
from edgelr.recipe.section import Count, Name, Section
from edgelr.recipe.tasks import TaskSettings
from edgelr.structure import GroupForm

Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Budget = Literal["parameters", "bytes", "macs"]
Factors = Literal["plain", "whitened", "kronecker"]
Allocation = Literal["uniform", "energy", "gradient", "sensitivity"]


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


class Latency(Section):
    """A budget of time: how much faster the whole model is to be, on one device that is measured here."""

    device: str = Field(description="device profile whose kernels are timed, see 'edgelr devices'")
    speedup: float = Field(
        gt=1,
        description="over the dense model at the recipe's precision, such as 1.5 for two thirds of its time",
    )
    tokens: Count = Field(128, description="length of the one text that it holds for")
    seconds: float = Field(20.0, gt=0, le=600, description="measuring time, all kernels together")


class Quality(Section):
    """A budget of loss: the smallest model whose metric, untuned, is no further below the dense model's."""

    metric: str = Field(description="a metric of the task, on the validation data")
    max_drop: float = Field(ge=0, description="what it may lose against the dense model")


class Keep(Section):
    """The budget, exactly one: a share of what the factorable sites cost when dense, a speedup, or a loss."""

    parameters: Share | None = Field(None, description="share of the sites' parameters to keep")
    bytes: Share | None = Field(
        None, description="share of the sites' bytes to keep, at the recipe's precision"
    )
    macs: Share | None = Field(None, description="share of the sites' multiply-accumulates to keep")
    latency: Latency | None = Field(None, description="speedup of the whole model on a device")
    quality: Quality | None = Field(None, description="what a metric may lose before any tuning")

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "exactly one budget is needed (parameters, bytes, macs, latency or quality), "
                f"found {' and '.join(given) or 'none'}"
            )
        return self

    @property
    def share(self) -> tuple[Budget, float]:
        """The one budget given, as (currency, share of what the sites cost when dense).

        Raises:
            ValueError: It is a latency or a quality: what share that is, only measuring tells.
        """
        for name in get_args(Budget):
            if (share := getattr(self, name)) is not None:
                return name, share
        raise ValueError("a budget of latency or quality is not a share")


class Calibration(Section):
    """The texts that statistics and sensitivities are measured on."""

    examples: Count = Field(512, description="examples behind the input statistics")
    sensitivity_examples: int = Field(
        64,
        ge=0,
        description="of these, how many measure the sensitivities; 0: none, where allocate does without",
    )
    sensitivity_points: int = Field(
        1, ge=1, le=4, description="ranks that each site is measured at: a slope, or a curve"
    )


class Compress(Section):
    """How the weight matrices are factored."""

    keep: Keep
    factors: Factors = Field(
        "kronecker",
        description="plain SVD of the weight; whitened: best for each layer's output on calibration data; "
        "kronecker: best for the model's output, by gradients too",
    )
    center: bool = Field(
        False,
        description="fit linear layers that have a bias to inputs about their mean; what that leaves of the "
        "mean goes into the bias",
    )
    refine: bool = Field(
        False,
        description="fit each layer anew to the inputs that the compressed layers before it really give; "
        "minutes for a small encoder, worth most where there is little tuning",
    )
    groups: tuple[GroupForm, ...] = Field(
        ("joint", "spatial", "query-key", "value-output"),
        description="other reductions than two factors of one matrix: a shared down projection, smaller "
        "attention heads, convolutions along one axis",
    )
    vocabulary: bool = Field(
        False, description="factor embedding tables too; int8 rows alone already serve sentence encoders well"
    )
    allocate: Allocation = Field("sensitivity", description="how the budget is shared among the sites")
    rank_multiple: int = Field(16, ge=1, le=256, description="ranks are multiples of this")
    include: tuple[str, ...] = Field(("*",), min_length=1, description="globs of sites to factor")
    exclude: tuple[str, ...] = Field((), description="globs of sites to leave dense")
    calibration: Calibration = Calibration()  # type: ignore[call-arg]

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.allocate == "sensitivity" and not self.calibration.sensitivity_examples:
            raise ValueError(
                "allocate: sensitivity needs calibration.sensitivity_examples above 0; "
                "gradient, energy and uniform do without"
            )
        if self.center and self.factors == "plain":
            raise ValueError("center needs factors: whitened or kronecker; plain factors know no inputs")
        return self


# --- finetune -------------------------------------------------------------------------------------


class Distill(Section):
    """Weights of the distillation losses; the dense model is the teacher."""

    embedding: Weight = Field(1.0, description="1 - cosine of the embeddings")
    similarity: Weight = Field(1.0, description="mean squared error of the batch's similarity matrix")
    hidden: Weight = Field(1.0, description="relative mean squared error of the hidden states of every layer")
    logits: Weight = Field(1.0, description="divergence of the next token's distribution, in writing")
    attention: Weight = Field(
        0.0, description="mean squared error of the attention to the source text, of translations"
    )
    temperature: float = Field(1.0, gt=0, le=20, description="that logits are divided by")
    sequence: int = Field(
        0,
        ge=0,
        le=16,
        description="beams of the dense model, whose own texts take the place of the references; 0: "
        "references as they are",
    )


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
    task_loss: Weight = Field(
        0.0,
        description="weight of the task's own loss: contrastive on (query, passage) pairs; cross entropy of "
        "the references",
    )
    mask_time: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of every sound that the model does not hear while the dense one does, in spans: "
        "SpecAugment, such as 0.05; of Whisper, wav2vec2 and HuBERT",
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="of the cross entropy, in writing")
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
    pivot: bool = Field(
        False, description="store the factors with an identity inside, where that costs no accuracy: smaller"
    )
    drop_unused_tokens: bool = Field(
        False,
        description="tokens that no training or calibration text has share the row of the most similar token "
        "that one has; the tokenizer keeps its ids",
    )


# --- validate -------------------------------------------------------------------------------------


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
    audio_s: tuple[Count, ...] = Field(
        (2, 5, 10), min_length=1, description="of speech: seconds of sound to time"
    )
    seconds: float = Field(20.0, gt=0, le=600, description="measuring time a device, all variants together")
    gates: tuple[Gate, ...] = ()


class Recipe(Section):
    """One build, from a dense model to a validated package."""

    edgelr: Literal[1] = Field(description="recipe format")
    name: Name
    seed: int = Field(0, ge=0, lt=2**32)
    task: Annotated[TaskSettings, Field(discriminator="type")]
    model: Model
    compress: Compress
    finetune: Finetune | None = None
    export: Export = Export()  # type: ignore[call-arg]
    quantize: Quantize | None = None
    validation: Validation = Field(Validation(), alias="validate")  # type: ignore[call-arg]
    compare: Compare = Compare()  # type: ignore[call-arg]
