"""What a task is: the functions that the stages call, and where each task's are.

A task is a module; this Protocol is its type. Adding one means a module here, a line in ``_MODULES``, a
section in the recipe's schema, and its light face in ``runtime/``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from edgelr.examples import Example
from edgelr.recipe.schema import Distill

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a model gives for a batch.

    Attributes:
        result: The task's output, ``[batch, dim]`` for embeddings.
        hidden: Hidden states of every layer, each ``[batch, tokens, dim]``; empty when not asked for.
    """

    result: Tensor
    hidden: tuple[Tensor, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """One graph to export.

    Attributes:
        role: Its name in the package; the file is ``<role>.onnx``.
        module: Called with the inputs by name; returns the outputs in order.
        cases: Example inputs of several shapes; the first one is traced, all of them test parity.
        dynamic_axes: Input name -> axis -> name of the dynamic axis.
        outputs: Output names.
        output_axes: Output name -> axis -> name, for the outputs' dynamic axes.
    """

    role: str
    module: nn.Module
    cases: tuple[Batch, ...]
    dynamic_axes: dict[str, dict[int, str]]
    outputs: tuple[str, ...]
    output_axes: dict[str, dict[int, str]]


class Task(Protocol):
    """The functions of a task's module."""

    def load_model(self, folder: Path) -> nn.Module:
        """Load the dense model strictly, in evaluation mode, fp32."""
        ...

    def tokenizer_json(self, folder: Path) -> str:
        """The tokenizer as one JSON document, readable without transformers."""
        ...

    def check_reach(self, model: nn.Module, tokenizer_json: str, max_tokens: int) -> None:
        """Check that the model can read every token of the tokenizer, ``max_tokens`` of them at once.

        Raises:
            UsageError: The model has fewer positions.
            UnsupportedModelError: The model has fewer tokens.
        """
        ...

    def token_table(self, model: nn.Module) -> nn.Module:
        """The layer that looks tokens up, dense or factored."""
        ...

    def texts(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Every text of the examples, once."""
        ...

    def batches(
        self, tokenizer_json: str, texts: Sequence[str], *, max_tokens: int, size: int
    ) -> list[Batch]:
        """Texts as padded batches of similar length; each has an ``attention_mask`` ``[batch, tokens]``."""
        ...

    def run(self, model: nn.Module, batch: Batch, *, hidden: bool = False) -> Outputs:
        """Run the model."""
        ...

    def distance(self, result: Tensor, reference: Tensor) -> Tensor:
        """How far each example's output is from the reference, ``[batch]``; 0 when equal."""
        ...

    def probe(self, result: Tensor) -> Tensor:
        """A random scalar function of the result, the squares of whose gradients average to the curvature.

        That is the curvature of ``distance`` where it is 0.
        """
        ...

    def distillation_loss(self, student: Outputs, teacher: Outputs, batch: Batch, weights: Distill) -> Tensor:
        """Scalar loss against the dense model."""
        ...

    def pair_loss(self, queries: Tensor, passages: Tensor) -> Tensor:
        """Scalar loss of the task itself on matching pairs ``[batch, dim]``."""
        ...

    def embed(
        self, model: nn.Module, tokenizer_json: str, texts: Sequence[str], max_tokens: int
    ) -> NDArray[np.float32]:
        """Outputs of many texts, in their order, ``[n, dim]``."""
        ...

    def graphs(
        self, model: nn.Module, tokenizer_json: str, texts: Sequence[str], max_tokens: int
    ) -> list[GraphSpec]:
        """The graphs to export, with parity cases made of ``texts``."""
        ...


_MODULES = {"sentence-embedding": "edgelr.tasks.sentence_embedding"}


def get_task(name: str) -> Task:
    """The module of a task; ``name`` was checked by the recipe's schema."""
    return cast(Task, importlib.import_module(_MODULES[name]))
