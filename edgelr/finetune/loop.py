"""The tuning loop: AdamW with warm-up, clipping, best checkpoint, early stop and exact resume.

The model stays in evaluation mode: the target is the teacher's exact output, so dropout would only be noise,
and without it a step depends on nothing but the seed, the step number and the weights before it.

With ``quantization_aware``, the last third of the steps computes as the quantized model will. Not all of
them: rounding takes time, and factors first have to be right at all. And not only the last few: when that
third begins, the learning rate is down to a quarter, and weights have to move by a step of the rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgelr.errors import DivergedError
from edgelr.finetune.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgelr.finetune.schedule import learning_rate
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune

State = dict[str, Any]
ROUNDED_SHARE = 1 / 3  # of the steps, the last ones, with quantization simulated


@dataclass(kw_only=True)
class Progressed:
    """Where a tuning run is."""

    step: int = 0
    best: State = field(default_factory=dict)
    best_score: float = float("-inf")
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    rounded: bool = False


def tune(  # noqa: PLR0913 - it is given everything that it does
    model: nn.Module,
    loss_of_step: Callable[[nn.Module, int], Tensor],
    validate: Callable[[nn.Module], float],
    settings: Finetune,
    scratch: Path,
    accelerator: Accelerator,
    progress: Progress,
    *,
    rounding: Callable[[nn.Module], AbstractContextManager[None]] | None = None,
) -> list[dict[str, float]]:
    """Tune ``model`` in place; it ends with the weights of its best validation.

    Args:
        model: The factored model; embeddings stay as they are, everything else is tuned.
        loss_of_step: (model, step) -> scalar loss.
        validate: model -> score, higher is better.
        settings: The recipe's section.
        scratch: Where checkpoints are kept; a run that finds one goes on from there.
        accelerator: Which device, how many processes.
        progress: Where to show how far it is.
        rounding: Lets the model compute as if it were quantized; None for a tuning that knows nothing of it.

    Returns:
        History rows ``{"step", "loss", "score"}``.

    Raises:
        DivergedError: A loss is not finite.
    """
    freeze_embeddings(model)
    optimizer = torch.optim.AdamW(_groups(model, settings.weight_decay), lr=settings.learning_rate)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    at = _resume(model, optimizer, scratch, progress) or _start(model, validate)
    begin = settings.steps if rounding is None else settings.steps - round(settings.steps * ROUNDED_SHARE)
    with progress.bar("tuning", settings.steps) as advance:
        advance(at.step)

        def steps_until(end: int) -> None:
            while at.step < end and at.stale < settings.patience:
                loss = _step(prepared, optimizer, loss_of_step, at.step, settings, accelerator)
                at.step += 1
                at.history.append({"step": at.step, "loss": loss})
                if at.step % settings.validate_every == 0 or at.step == end:
                    _validate(at, model, validate)
                if at.step % settings.checkpoint_every == 0 and accelerator.is_main_process:
                    _save(at, model, optimizer, scratch)
                advance(note=f"loss {loss:.4f}, best {at.best_score:.4f}")

        steps_until(begin)
        if rounding is not None:
            with rounding(model):
                if not at.rounded:
                    advance(begin - at.step)  # what patience has skipped
                    _begin_rounded(at, model, validate, begin)
                steps_until(settings.steps)
    model.load_state_dict(at.best)
    return at.history


def freeze_embeddings(model: nn.Module) -> None:
    """Leave the embedding tables as they are: most of the weights, and the least to gain."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.requires_grad_(False)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and norms do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]


def _start(model: nn.Module, validate: Callable[[nn.Module], float]) -> Progressed:
    score = validate(model)
    return Progressed(best=_copy(model), best_score=score, history=[{"step": 0, "score": score}])


def _resume(model: nn.Module, optimizer: Any, scratch: Path, progress: Progress) -> Progressed | None:  # noqa: ANN401
    found = load_checkpoint(scratch)
    if found is None:
        return None
    progress.note(f"resuming after step {found.step}")
    model.load_state_dict(found.model)
    optimizer.load_state_dict(found.optimizer)
    return Progressed(
        step=found.step,
        best=found.best,
        best_score=found.best_score,
        stale=found.stale,
        history=found.history,
        rounded=found.rounded,
    )


def _begin_rounded(
    at: Progressed, model: nn.Module, validate: Callable[[nn.Module], float], begin: int
) -> None:
    """Go on from the best weights so far; how good they are is measured anew, as the quantized model."""
    model.load_state_dict(at.best)
    at.step, at.stale, at.rounded = begin, 0, True
    at.best_score = validate(model)
    at.history.append({"step": at.step, "score": at.best_score})


def _step(
    model: nn.Module,
    optimizer: Any,  # noqa: ANN401 - accelerate's wrapper
    loss_of_step: Callable[[nn.Module, int], Tensor],
    step: int,
    settings: Finetune,
    accelerator: Accelerator,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, settings)
    loss = loss_of_step(model, step)
    value = float(loss.detach())
    if not torch.isfinite(loss):
        raise DivergedError(
            f"finetune: the loss is {value} at step {step + 1} of {settings.steps}",
            f"lower finetune.learning_rate (now {settings.learning_rate:g}) or finetune.clip_norm, or raise "
            "finetune.warmup_share",
        )
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), settings.clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return value


def _validate(at: Progressed, model: nn.Module, validate: Callable[[nn.Module], float]) -> None:
    score = validate(model)
    at.history.append({"step": at.step, "score": score})
    if score > at.best_score:
        at.best, at.best_score, at.stale = _copy(model), score, 0
    else:
        at.stale += 1


def _save(at: Progressed, model: nn.Module, optimizer: Any, scratch: Path) -> None:  # noqa: ANN401
    state = Checkpoint(
        step=at.step,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        best=at.best,
        best_score=at.best_score,
        stale=at.stale,
        history=at.history,
        rounded=at.rounded,
    )
    save_checkpoint(state, scratch)


def _copy(model: nn.Module) -> State:
    return copy.deepcopy({name: tensor.detach() for name, tensor in model.state_dict().items()})
