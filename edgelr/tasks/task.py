"""What a task is: the functions that the stages call, and where each task's are.

A task is a module; this Protocol is its type. Adding one means a module here, a line in ``_MODULES``, a
section in the recipe's schema, and its light face in ``runtime/``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from edgelr.artifacts import Source
from edgelr.examples import AnyExample
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.recipe.tasks import TaskSettings

Batch = dict[str, Tensor]
Arrays = dict[str, NDArray[np.generic]]
Loss = Callable[[nn.Module, int], Tensor]
"""(model, number of a batch, counted over all epochs) -> scalar loss."""
Score = Callable[[nn.Module], dict[str, float]]
"""Model -> every metric of its task, over the examples."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How texts become a model's input.

    Attributes:
        folder: The dense model's, with its tokenizer.
        fingerprint: Of what is in it: what is remembered of a folder must not outlive its content.
        max_tokens: Longer texts are cut; 0 of what has no tokens.
        source_language: Code of the language that texts or sounds are in, for models of several; else None.
        target_language: Code of the language to translate to, likewise.
        prefix: What every text begins with.
        sounds: What the paths of sounds, and of arrays, are relative to.
        window_s: Seconds of sound that the model is to read at once, where that is less than it could.
    """

    folder: Path
    max_tokens: int
    fingerprint: str = ""
    source_language: str | None = None
    target_language: str | None = None
    prefix: str = ""
    sounds: Path | None = None
    window_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a model gives for a batch.

    Attributes:
        result: The task's output: ``[batch, dim]`` for embeddings, ``[batch, tokens, vocabulary]`` logits for
            texts that are written, 0 where there is padding.
        hidden: Hidden states of every layer, each ``[batch, tokens, dim]``; empty when not asked for.
        attention: What every decoder layer looks at, ``[batch, heads, tokens, source tokens]``; likewise.
    """

    result: Tensor
    hidden: tuple[Tensor, ...] = ()
    attention: tuple[Tensor, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """One graph to export.

    Attributes:
        role: Its name in the package; the file is ``<role>.onnx``.
        module: Called with ``arguments`` of a case; returns the outputs in order.
        cases: Example inputs of several shapes; the first one is traced, all of them test parity.
        dynamic_axes: Input name -> axis -> name of the dynamic axis.
        outputs: Output names.
        output_axes: Output name -> axis -> name, for the outputs' dynamic axes.
        plain: How many inputs are arguments of their own; the others are one argument, a tuple. None: all.
        idle: Parts of ``module`` that the graph does not run.
        travels: Whether the cases are stored in the package, to test parity anywhere.
        one_token: Whether it is given one token a call. Starting its nodes is most of its time then, and
            projections of the same value are packed; with many tokens that would cost more than it saves.
        exact: Whether it multiplies by the matrices of ``module``'s known layers, and by no other constant.
    """

    role: str
    module: nn.Module
    cases: tuple[Batch, ...]
    dynamic_axes: dict[str, dict[int, str]]
    outputs: tuple[str, ...]
    output_axes: dict[str, dict[int, str]]
    plain: int | None = None
    idle: tuple[nn.Module, ...] = ()
    travels: bool = True
    one_token: bool = False
    exact: bool = True

    def arguments(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Values by input name, as the module takes them."""
        listed = list(values.values())
        if self.plain is None:
            return tuple(listed)
        return (*listed[: self.plain], tuple(listed[self.plain :]))


class Task(Protocol):
    """The functions of a task's module.

    Attributes:
        EXAMPLE: The kind of its examples.
        SHRINKS_HEADS: Glob of projections around attention heads that its graphs can have of another size.
    """

    EXAMPLE: type[AnyExample]
    SHRINKS_HEADS: str

    def load_model(self, folder: Path) -> nn.Module:
        """Load the dense model strictly, in evaluation mode, fp32."""
        ...

    def check_reach(self, model: nn.Module, reading: Reading) -> None:
        """Check that the model can read every token of the tokenizer, ``max_tokens`` of them at once.

        Raises:
            UsageError: The model has fewer positions.
            UnsupportedModelError: The model has fewer tokens.
        """
        ...

    def token_table(self, model: nn.Module) -> nn.Module:
        """The layer that looks tokens up, dense or factored."""
        ...

    def seen_tokens(self, reading: Reading, examples: Sequence[AnyExample]) -> set[int]:
        """Every token that the examples have, and those that a tokenizer adds by itself."""
        ...

    def example_batches(self, reading: Reading, examples: Sequence[AnyExample], size: int) -> list[Batch]:
        """All texts of the examples as padded batches of similar length.

        Each has an ``attention_mask`` ``[batch, tokens]``, and what else a run of the model needs.
        """
        ...

    def run(self, model: nn.Module, batch: Batch, *, hidden: bool = False) -> Outputs:
        """Run the model; with ``hidden``, keep what distillation compares besides the result."""
        ...

    def distance(self, result: Tensor, reference: Tensor) -> Tensor:
        """How far each example's output is from the reference, ``[batch]``; 0 when equal."""
        ...

    def probe(self, result: Tensor) -> Tensor:
        """A random scalar function of the result, the squares of whose gradients average to the curvature.

        That is the curvature of ``distance`` where it is 0.
        """
        ...

    def losses(
        self,
        teacher: nn.Module,
        reading: Reading,
        examples: Sequence[AnyExample],
        settings: Finetune,
        seed: int,
        scratch: Path,
        progress: Progress,
    ) -> Loss:
        """The loss of every batch: distillation from the dense model, and the task's own where it has weight.

        Raises:
            DataError: There is no example that the task's own loss could be computed on.
        """
        ...

    def validator(
        self, dense: nn.Module, reading: Reading, examples: Sequence[AnyExample]
    ) -> Callable[[nn.Module], float]:
        """A score that picks the best checkpoint, higher is better; cheap enough to be asked for often."""
        ...

    def scorer(self, dense: nn.Module, reading: Reading, examples: Sequence[AnyExample]) -> Score:
        """Every metric of the task on the examples; the dense model is run once, here."""
        ...

    def graphs(self, model: nn.Module, reading: Reading, examples: Sequence[AnyExample]) -> list[GraphSpec]:
        """The graphs to export, with parity cases made of the examples."""
        ...

    def package_settings(self, model: nn.Module, reading: Reading) -> dict[str, int | str]:
        """What the runtime needs to turn a text into a graph's input."""
        ...

    def furnish(
        self,
        folder: Path,
        model: nn.Module,
        dense: nn.Module,
        reading: Reading,
        examples: Sequence[AnyExample],
        progress: Progress,
    ) -> Arrays:
        """Write what a package needs besides its graphs and examples: the tokenizer and what is precomputed.

        Returns:
            What ``reference.npz`` holds besides parity cases: the dense model's outputs for the examples.
        """
        ...


_MODULES = {
    "sentence-embedding": "edgelr.tasks.sentence_embedding",
    "translation": "edgelr.tasks.translation",
    "automatic-speech-recognition": "edgelr.tasks.speech",
    "recommendation": "edgelr.tasks.recommendation",
    "text-classification": "edgelr.tasks.text_classification",
    "token-classification": "edgelr.tasks.token_classification",
    "image-classification": "edgelr.tasks.image_classification",
    "custom": "edgelr.tasks.custom",
    "text-generation": "edgelr.tasks.text_generation",
}


def reading_of(source: Source, settings: TaskSettings) -> Reading:
    """How the texts of a recipe become a model's input.

    Args:
        source: The dense model.
        settings: The recipe's section.
    """
    return Reading(
        folder=source.model_folder,
        fingerprint=source.fingerprint,
        max_tokens=getattr(settings, "max_tokens", 0),
        source_language=getattr(settings, "source_language", getattr(settings, "language", None)),
        target_language=getattr(settings, "target_language", None),
        prefix=getattr(settings, "prefix", ""),
        sounds=source.folder / "data",
        window_s=getattr(settings, "window_s", None),
    )


def load_student(task: Task, reading: Reading) -> nn.Module:
    """The model that is to be compressed: the dense one, but for what the recipe cuts off beforehand.

    Args:
        task: The recipe's.
        reading: How much of a sound it is to read at once.

    Raises:
        UnsupportedModelError: The model cannot be loaded.
        UsageError: It reads less.
    """
    model = task.load_model(reading.folder)
    if reading.window_s is not None and hasattr(model.config, "max_source_positions"):
        from edgelr.tasks.speech_model import shorten_window

        shorten_window(model, reading.window_s)
    return model


def get_task(name: str) -> Task:
    """The module of a task; ``name`` was checked by the recipe's schema."""
    return cast(Task, importlib.import_module(_MODULES[name]))
