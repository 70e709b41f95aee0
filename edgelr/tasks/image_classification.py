"""Task ``image-classification``: pixels to one of the labels of a Hugging Face classifier such as ViT."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgelr.errors import UnsupportedModelError
from edgelr.examples import Call
from edgelr.metrics.classification import classification_scores
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.runtime.calls import copy_calls, read_calls, write_outputs
from edgelr.runtime.classify import LOGITS
from edgelr.runtime.labels import write_labels
from edgelr.tasks.label_scores import check_one_label, distance, label_loss, labels_of, nearness, probe
from edgelr.tasks.order import batch_of_step
from edgelr.tasks.pretrained import load_pretrained
from edgelr.tasks.task import Arrays, Batch, GraphSpec, Loss, Outputs, Reading, Score

__all__ = ["distance", "probe"]

EXAMPLE = Call
SHRINKS_HEADS = "*"
IMAGES = "pixel_values"

_ROWS = 32
_PROCESSOR = "preprocessor_config.json"  # how pixels become the model's input


def load_model(folder: Path) -> nn.Module:
    """Load the classifier strictly, in evaluation mode, fp32.

    Raises:
        MissingRequirementError: transformers is not installed.
        UnsupportedModelError: The checkpoint is damaged or unknown, or does not choose a label.
    """
    model: Any = load_pretrained(folder, "AutoModelForImageClassification", "a classifier", ("vit.pooler.",))
    check_one_label(model, folder)
    return cast(nn.Module, model.eval())


def check_reach(model: nn.Module, reading: Reading) -> None:
    """Nothing: images have the size of the data."""


def token_table(model: nn.Module) -> nn.Module:
    """It has none.

    Raises:
        UnsupportedModelError: Always.
    """
    raise UnsupportedModelError("images have no tokens", "leave export.drop_unused_tokens out")


def seen_tokens(reading: Reading, examples: Sequence[Call]) -> set[int]:
    """None."""
    return set()


def images_of(reading: Reading, examples: Sequence[Call]) -> tuple[Tensor, Tensor]:
    """Pixels ``[images, channels, height, width]`` and labels ``[images]``."""
    assert reading.sounds is not None
    calls = read_calls(reading.sounds, examples)
    images, labels = (np.concatenate([call[name] for call in calls]) for name in (IMAGES, "labels"))
    return torch.from_numpy(images), torch.from_numpy(labels)


def example_batches(reading: Reading, examples: Sequence[Call], size: int) -> list[Batch]:
    """The images, in their order."""
    return [{IMAGES: part} for part in torch.split(images_of(reading, examples)[0], size)]


def run(model: nn.Module, batch: Batch, *, hidden: bool = False) -> Outputs:
    """Scores of the labels, ``[batch, labels]``; with ``hidden``, also every layer's states."""
    out = model(pixel_values=batch[IMAGES], output_hidden_states=hidden)
    return Outputs(result=out.logits, hidden=tuple(out.hidden_states[1:]) if hidden else ())


def losses(
    teacher: nn.Module,
    reading: Reading,
    examples: Sequence[Call],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """Distillation of scores and hidden states, and cross entropy where it has weight; see ``Task``."""
    images, labels = (part.to(next(teacher.parameters()).device) for part in images_of(reading, examples))
    hidden = settings.distill.hidden > 0

    def loss(model: nn.Module, number: int) -> Tensor:
        chosen = list(batch_of_step((1,) * len(images), settings.batch, seed, number))
        batch = {IMAGES: images[chosen]}
        with torch.no_grad():
            theirs = run(teacher, batch, hidden=hidden)
        return label_loss(run(model, batch, hidden=hidden), theirs, labels[chosen], settings)

    return loss


def validator(dense: nn.Module, reading: Reading, examples: Sequence[Call]) -> Callable[[nn.Module], float]:
    """Minus the mean divergence from the dense model: smooth, where accuracy is not."""
    images, _ = images_of(reading, examples)
    return nearness(dense, lambda model: scores_of(model, images))


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Call]) -> Score:
    """Mean of every metric, as ``validate`` measures them of packages."""
    images, labels = images_of(reading, examples)
    references = scores_of(dense, images)

    def score(model: nn.Module) -> dict[str, float]:
        own = references if model is dense else scores_of(model, images)
        found = classification_scores(own, references, labels.numpy())
        return {metric: scores.value for metric, scores in found.items()}

    return score


@torch.inference_mode()
def scores_of(model: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """Scores of the labels, ``[images, labels]``."""
    device = next(model.parameters()).device
    found = [run(model, {IMAGES: part.to(device)}).result for part in torch.split(images, _ROWS)]
    return torch.cat(found).float().cpu().numpy()


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """Nothing: pixels are its input as they are."""
    return {}


def furnish(
    folder: Path,
    model: nn.Module,
    dense: nn.Module,
    reading: Reading,
    examples: Sequence[Call],
    progress: Progress,
) -> Arrays:
    """Write the images of the examples, the dense model's scores, and the labels; see ``Task``."""
    assert reading.sounds is not None
    copy_calls(reading.sounds, folder, examples)
    scores = scores_of(dense, images_of(reading, examples)[0])
    write_outputs(folder, [{LOGITS: row[None]} for row in scores], None)
    write_labels(folder, labels_of(dense))
    if (reading.folder / _PROCESSOR).is_file():
        shutil.copyfile(reading.folder / _PROCESSOR, folder / _PROCESSOR)
    return {}


class ImageGraph(nn.Module):
    """A classifier as it is exported.

    Args:
        model: A Hugging Face classifier.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Scores of the labels for ``[batch, channels, height, width]``."""
        scores: Tensor = self.model(pixel_values=pixel_values).logits
        return scores


def graphs(model: nn.Module, reading: Reading, examples: Sequence[Call]) -> list[GraphSpec]:
    """One graph: pixels in, scores of the labels out; the number of images is open, their size is not."""
    images, _ = images_of(reading, examples[:3])
    picked = torch.cat([images] * 3)[:3]
    return [
        GraphSpec(
            role="model",
            module=ImageGraph(model),
            cases=({IMAGES: picked[:2]}, {IMAGES: picked[:1]}, {IMAGES: picked}),
            dynamic_axes={IMAGES: {0: "batch"}},
            outputs=(LOGITS,),
            output_axes={LOGITS: {0: "batch"}},
            travels=False,  # the scores of every example do
        )
    ]
