"""Task ``automatic-speech-recognition``: the functions of the kind of model that a folder holds.

Whisper and Moonshine write one token after the other (``speech_recognition.py``,
``moonshine_recognition.py``); wav2vec2 and HuBERT write a letter for every position (``ctc_recognition.py``).
A recipe need not say which one it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from torch import nn

from edgelr.examples import Utterance
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.tasks import (
    ctc_model,
    ctc_recognition,
    moonshine_model,
    moonshine_recognition,
    speech_recognition,
)
from edgelr.tasks.pretrained import read_json
from edgelr.tasks.task import Arrays, Batch, GraphSpec, Loss, Outputs, Reading, Score
from edgelr.tasks.translation_model import distance, probe

__all__ = ["distance", "probe"]

EXAMPLE = Utterance
SHRINKS_HEADS = "*encoder.layers.*"  # the decoder's keys and values come from outside its graph

_MODULES = {
    **dict.fromkeys(ctc_model.MODELS, ctc_recognition),
    **dict.fromkeys(moonshine_model.MODELS, moonshine_recognition),
}


def _of(folder: Path) -> ModuleType:
    config = read_json(folder / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    return _MODULES.get(str(kind), speech_recognition)


def _for(model: nn.Module) -> ModuleType:
    kind = model.config.model_type  # type: ignore[union-attr]
    return _MODULES.get(str(kind), speech_recognition)


def load_model(folder: Path) -> nn.Module:
    """See ``Task``."""
    model: nn.Module = _of(folder).load_model(folder)
    return model


def check_reach(model: nn.Module, reading: Reading) -> None:
    """See ``Task``."""
    _for(model).check_reach(model, reading)


def token_table(model: nn.Module) -> nn.Module:
    """See ``Task``."""
    table: nn.Module = _for(model).token_table(model)
    return table


def seen_tokens(reading: Reading, examples: Sequence[Utterance]) -> set[int]:
    """See ``Task``."""
    tokens: set[int] = _of(reading.folder).seen_tokens(reading, examples)
    return tokens


def example_batches(reading: Reading, examples: Sequence[Utterance], size: int) -> list[Batch]:
    """See ``Task``."""
    batches: list[Batch] = _of(reading.folder).example_batches(reading, examples, size)
    return batches


def run(model: nn.Module, batch: Batch, *, hidden: bool = False) -> Outputs:
    """See ``Task``."""
    outputs: Outputs = _for(model).run(model, batch, hidden=hidden)
    return outputs


def losses(
    teacher: nn.Module,
    reading: Reading,
    examples: Sequence[Utterance],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """See ``Task``."""
    loss: Loss = _for(teacher).losses(teacher, reading, examples, settings, seed, scratch, progress)
    return loss


def validator(
    dense: nn.Module, reading: Reading, examples: Sequence[Utterance]
) -> Callable[[nn.Module], float]:
    """See ``Task``."""
    score: Callable[[nn.Module], float] = _for(dense).validator(dense, reading, examples)
    return score


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[Utterance]) -> Score:
    """See ``Task``."""
    score: Score = _for(dense).scorer(dense, reading, examples)
    return score


def graphs(model: nn.Module, reading: Reading, examples: Sequence[Utterance]) -> list[GraphSpec]:
    """See ``Task``."""
    specs: list[GraphSpec] = _for(model).graphs(model, reading, examples)
    return specs


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """See ``Task``."""
    settings: dict[str, int | str] = _for(model).package_settings(model, reading)
    return settings


def furnish(
    folder: Path,
    model: nn.Module,
    dense: nn.Module,
    reading: Reading,
    examples: Sequence[Utterance],
    progress: Progress,
) -> Arrays:
    """See ``Task``."""
    arrays: Arrays = _for(model).furnish(folder, model, dense, reading, examples, progress)
    return arrays
