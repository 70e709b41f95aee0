"""What a recipe may say: strict, frozen models; every default of the project lives here.

Every section is data. A field's description is its documentation: ``edgelr schema`` prints them for editors.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from edgelr.recipe.compare import Compare
from edgelr.recipe.finetune import Finetune
from edgelr.recipe.gates import BaselineName, Gate
from edgelr.recipe.quantize import Quantize
from edgelr.recipe.recommend import Train
from edgelr.recipe.section import Count, Name, Section
from edgelr.recipe.tasks import TaskSettings
from edgelr.structure import GroupForm

GRAPH_SUFFIX = ".onnx"
Share = Annotated[float, Field(gt=0, le=1)]
Budget = Literal["parameters", "bytes", "macs"]
Factors = Literal["plain", "whitened", "kronecker"]
Allocation = Literal["uniform", "energy", "gradient", "sensitivity"]


# --- model ----------------------------------------------------------------------------------------


class TrainClassifier(Section):
    """A text encoder with a new head for the labels of the recipe's texts, trained on these first."""

    type: Literal["text-classifier"]
    path: str = Field(min_length=1, description="the encoder: a folder next to the recipe, or a hub id")
    package: str | None = Field(None, description="installed Python package that path is inside")
    epochs: Count = Field(3, description="passes over the texts")
    batch: int = Field(32, ge=2, description="texts a step")
    learning_rate: float = Field(1.0e-4, gt=0, lt=1)


class Model(Section):
    """The dense model."""

    path: str | None = Field(
        None,
        min_length=1,
        description="a folder next to the recipe, or a hub id such as 'org/name'; of task onnx an .onnx file",
    )
    train: Train | TrainClassifier | None = Field(
        None,
        discriminator="type",
        description="in place of a path: train it first, of recommendations and of labels of texts",
    )
    package: str | None = Field(None, description="installed Python package that path is inside")
    revision: str | None = Field(None, description="commit, tag or branch of a hub id")

    @property
    def is_graph(self) -> bool:
        """Whether it is an ONNX file, not a folder."""
        return self.path is not None and self.path.endswith(GRAPH_SUFFIX)

    @property
    def title(self) -> str:
        """What a person calls the model."""
        return self.package or self.path or f"{'' if self.train is None else self.train.type}, trained here"

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.package is not None and self.revision is not None:
            raise ValueError("'package' and 'revision' exclude each other: a revision belongs to a hub id")
        if (self.path is None) == (self.train is None):
            raise ValueError("exactly one is needed: 'path' of a trained model, or 'train'")
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
        "kronecker: best for the model's output, by gradients too; of an ONNX file, which has none, whitened",
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


# --- export, quantize -----------------------------------------------------------------------------


class Shapes(Section):
    """Sizes for hardware that takes no open axis; the longest text of the package is always among them."""

    tokens: tuple[Count, ...] = Field((), description="lengths of texts, each a graph of its own when opened")


class Export(Section):
    """How the ONNX graph is written."""

    opset: int = Field(20, ge=18, le=23)
    tolerance: float = Field(
        2.0e-4,
        gt=0,
        description="largest difference of torch and ONNX outputs, of their largest number where that is > 1",
    )
    pivot: bool = Field(
        False, description="store the factors with an identity inside, where that costs no accuracy: smaller"
    )
    drop_unused_tokens: bool = Field(
        False,
        description="tokens that no training or calibration text has share the row of the most similar token "
        "that one has; the tokenizer keeps its ids",
    )
    operators: Literal["fused", "plain"] = Field(
        "fused",
        description="fused: attention is one operator, fastest on CPUs; plain: products and a softmax, "
        "which NPUs and phones take; a decoder gets a cache of one length; no language models",
    )
    shapes: Shapes = Shapes()  # type: ignore[call-arg]
    top: Count | None = Field(
        None,
        description="of a recommender: the graph also ranks, and gives so many best items that were not seen",
    )
    ort_format: bool = Field(
        False,
        description="also write ort/: the graphs in ONNX Runtime's own format, which its minimal builds "
        "read, and the config that a build with only their operators is made from",
    )


class Variant(Section):
    """The same tuned model, written and quantized in another way, for devices that need that."""

    export: Export = Field(Export(), description="in place of the recipe's section")  # type: ignore[call-arg]
    quantize: Quantize | None = Field(
        None, description="in place of the recipe's section; left out: fp32. Its scheme may not be auto"
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
    rows: tuple[Count, ...] = Field(
        (1,), min_length=1, description="of a graph of arrays with a batch axis: rows of a call to time"
    )
    seconds: float = Field(20.0, gt=0, le=600, description="measuring time a device, all variants together")
    session_seconds: float = Field(
        0.0,
        ge=0,
        le=600,
        description="time to find out whether a variant is faster on a device with other session settings, "
        "which its package then has in session.json, such as 6; 0: ONNX Runtime's own. Decoders gain on "
        "several threads, which sleep between small products if they are not told to wait a little; ONNX "
        "files from elsewhere may gain by other rewrites of the graph",
    )
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
    variants: dict[str, Variant] = Field(
        default_factory=dict,
        description="name -> sections export and quantize of another package, a folder of this name in the "
        "first. A device that does not accept what the recipe's own quantize gives takes the first variant "
        "that it accepts; a variant that no device of a build takes is not built",
    )
    validation: Validation = Field(Validation(), alias="validate")  # type: ignore[call-arg]
    compare: Compare = Compare()  # type: ignore[call-arg]
