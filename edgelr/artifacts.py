"""What flows between the stages: frozen types, and the files each is kept in.

READ SECOND. An artifact is a folder plus a small typed view of it. A stage writes the folder and never
changes its inputs; the store (``store.py``) keeps the folder under a key, hashes its files and hands the
view to the next stage. Nothing here imports torch: the light half reads artifacts too.

===========  =====================================================================  ===========
artifact     files                                                                  written by
===========  =====================================================================  ===========
Source       ``source.json``, ``data/{train,calibration,validation,test}.jsonl``    load
Survey       ``survey.json``, ``{statistics,spectra,bases}.npz``                    survey
KernelTimes  ``kernels.json``, for a budget of latency: ``plan/kernels.py``         kernels
FoundShare   ``share.json``, for a budget of quality: ``plan/quality.py``           quality
Plan         ``plan.json``                                                          plan
Factored     ``structure.json``, ``weights*.safetensors`` (or ``model.onnx``)       compress, finetune
SchemeTimes  ``schemes.json``, for the scheme auto: ``quantize/fastest.py``         schemes
Package      ``package.json`` and the files it lists                                export, quantize
Sessions     ``sessions.json``, of ``session_rows.py``                              sessions
Verdict      ``verdict.json``, of ``verdict.py``                                    validate
===========  =====================================================================  ===========
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgelr.examples import Row, read_examples
from edgelr.structure import Form, Group, LeftDense, Reduction, Site

Split = Literal["train", "calibration", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "calibration", "validation", "test")
# Names of the packages of a build; every other name is that of a variant of the candidate.
BASELINES = ("dense-fp32", "dense-int8")
CANDIDATE = "candidate"


@dataclass(frozen=True, kw_only=True)
class Source:
    """The dense model and its data.

    Attributes:
        folder: Where ``source.json`` and the data splits are.
        model_folder: The dense model, a local Hugging Face folder; of the task onnx, the file.
        fingerprint: sha256 over the model's configuration, tokenizer and weights.
        title: What a person calls the model: its path in the recipe.
        license: What the model card says, or None.
        counts: Number of examples of each split.
    """

    folder: Path
    model_folder: Path
    fingerprint: str
    title: str
    license: str | None
    counts: dict[str, int]

    def examples(self, split: Split, kind: type[Row]) -> tuple[Row, ...]:
        """Read one split, in its fixed order; ``kind`` is that of the task's examples."""
        return read_examples(self.folder / "data" / f"{split}.jsonl", kind)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Every factorable site of a model, with its cost, spectrum and sensitivity.

    Attributes:
        folder: Where ``statistics.npz``, ``spectra.npz`` and ``bases.npz`` (see ``survey/stage.py``) are.
        sites: In the order of the model's modules.
        groups: Of these sites; a site may be in several.
        skipped: Matrices that cannot or must not be factored.
        tokens: Unmasked calibration tokens behind the statistics; without masks, rows of the busiest site.
        parameters: All parameters of the dense model, sites or not.
        measured: Whether sensitivities were measured.
        factors: How factors are chosen that its spectra and bases are of.
        unit: What ``Site.calls`` counts by, in words.
    """

    folder: Path
    sites: tuple[Site, ...]
    groups: tuple[Group, ...]
    skipped: tuple[LeftDense, ...]
    tokens: int
    parameters: int
    measured: bool = True
    factors: str = "kronecker"
    unit: str = "token"


@dataclass(frozen=True, kw_only=True)
class SitePlan:
    """The choice for one site, as a row of the layer table.

    Attributes:
        name: The site.
        out: Rows of its weight.
        in_: Columns of its weight.
        form: What is done to it; ``dense`` when nothing.
        rank: As of the reduction; None when dense.
        kept_share: Parameters after / before, of all the sites of the reduction.
        error_share: Expected share of its energy that is lost.
        expected_change: Of the model's output, before tuning, by all the sites of the reduction.
    """

    name: str
    out: int
    in_: int
    form: Form | Literal["dense"]
    rank: int | None
    kept_share: float
    error_share: float
    expected_change: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a model costs: parameters, bytes of its weights, multiply-accumulates of its sites a unit."""

    parameters: int
    bytes: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A rank, or dense, for every site.

    Attributes:
        folder: Where ``plan.json`` is.
        sites: One entry a site, in the survey's order.
        reductions: What is done; sites that none of them names stay dense.
        dense: Cost of the model before.
        candidate: Cost after.
        kept_share: Site parameters after / before.
        predicted_loss: Expected change of the model's output, without tuning; None when the survey measured
            no sensitivities.
        curve: (kept share, expected change) of other budgets, the share rising; empty likewise.
        found: Of a budget of latency, ``dense_ms``, ``planned_ms`` and ``speedup``, all predicted from kernel
            times; of quality, the ``share`` that holds it and the ``drop`` there; else nothing.
        unit: What multiply-accumulates are counted by, in words.
    """

    folder: Path
    sites: tuple[SitePlan, ...]
    reductions: tuple[Reduction, ...]
    dense: Cost
    candidate: Cost
    kept_share: float
    predicted_loss: float | None
    curve: tuple[tuple[float, float], ...] = ()
    found: dict[str, float] = field(default_factory=dict)
    unit: str = "token"


@dataclass(frozen=True, kw_only=True)
class Factored:
    """The model with low-rank layers, as safetensors plus their structure; or as a graph with them.

    Attributes:
        folder: Where ``weights*.safetensors``, or ``model.onnx``, and ``structure.json`` are.
        reductions: What was done to the dense model; empty for that model itself.
        method: How the factors were made.
        metrics: Validation metrics of the torch model, when the stage measured any.
        rectified: Modules of the dense model that were GELU, and are ReLU.
    """

    folder: Path
    reductions: tuple[Reduction, ...]
    method: str
    metrics: dict[str, float] = field(default_factory=dict)
    rectified: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One graph input or output: name, dtype in ONNX words (``int64``), shape with named dynamic axes."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One ONNX file of a package."""

    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Package:
    """What an app ships: the graphs and everything needed to use and to re-test them.

    Attributes:
        folder: Where ``package.json`` is.
        name: The recipe's name.
        task: Task type, such as ``sentence-embedding``.
        graphs: By role (``model``).
        precision: ``fp32`` or the quantization scheme.
        cost: Parameters, bytes of the whole folder, multiply-accumulates a unit of ``Plan``.
        settings: What the runtime needs to turn raw input into graph input (``max_tokens``).
        source: Model title, fingerprint, recipe hash.
        gates: The recipe's gates, so that a package can be validated anywhere.
        accuracy: As validated: metric -> value; empty before validation.
        files: File name -> sha256.
        variants: Folder in it -> sha256 of the ``package.json`` there: packages of their own, for devices
            that do not accept this one's precision. Such a device takes the first that it accepts.
        metric: ``FILE.py:FUNCTION`` that judges its outputs too, as a recipe or a command line names it.
            Never stored: a package brings no code.
        session: Device -> session setting -> value, as measured; None: as ``session.json`` says.
    """

    folder: Path
    name: str
    task: str
    graphs: dict[str, Graph]
    precision: str
    cost: Cost
    settings: dict[str, int | str]
    source: dict[str, str]
    gates: tuple[dict[str, Any], ...]
    accuracy: dict[str, float]
    files: dict[str, str]
    variants: dict[str, str] = field(default_factory=dict)
    metric: str | None = None
    session: dict[str, dict[str, str]] | None = None
