"""Task ``recommendation``: users to scores of every item of a catalog."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from edgelr.errors import DamagedArtifactError, UnsupportedModelError
from edgelr.examples import History, spread
from edgelr.metrics.recommendation import Ranked, ranked, recommendation_scores
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.runtime.catalog import ITEMS, USERS, Catalog, read_catalog
from edgelr.runtime.recommend import pack_ranked
from edgelr.tasks.order import batch_of_step
from edgelr.tasks.recommendation_losses import divergence, own_loss, padded, teach
from edgelr.tasks.recommendation_model import call, folded, load_model
from edgelr.tasks.task import Arrays, Batch, GraphSpec, Loss, Outputs, Reading, Score

__all__ = ["load_model"]

EXAMPLE = History
SHRINKS_HEADS = "*"

_BATCH = 64


def check_reach(model: nn.Module, reading: Reading) -> None:
    """Check that the tables have a row for each user and item that is listed.

    Raises:
        UnsupportedModelError: They have more or fewer.
    """
    catalog = catalog_of(reading)
    for file, listed, rows in (
        (USERS, catalog.users, model.layout.users),  # type: ignore[union-attr]
        (ITEMS, catalog.items, model.layout.items),  # type: ignore[union-attr]
    ):
        if len(listed) != rows:
            raise UnsupportedModelError(
                f"{reading.folder / file} has {len(listed)} lines, the model's table {rows} rows",
                "list what each row is, a line each",
            )


def catalog_of(reading: Reading) -> Catalog:
    """What the rows of a model's tables are.

    Raises:
        UnsupportedModelError: The lists are missing or name something twice.
    """
    return _catalog(reading.folder, reading.fingerprint)


@lru_cache(maxsize=4)
def _catalog(folder: Path, fingerprint: str) -> Catalog:
    del fingerprint  # what is remembered of a folder must not outlive its content
    try:
        return read_catalog(folder)
    except DamagedArtifactError as error:
        raise UnsupportedModelError(error.found, error.hint) from error


def token_table(model: nn.Module) -> nn.Module:
    """The items' table."""
    assert isinstance(model.items, nn.Module)
    return model.items


def seen_tokens(reading: Reading, examples: Sequence[History]) -> set[int]:
    """Every item that the users met."""
    del reading
    return {row for each in examples for row in (*each.seen, *each.liked, *each.disliked)}


def example_batches(reading: Reading, examples: Sequence[History], size: int) -> list[Batch]:
    """Users with all that they met: ``user [batch]``, ``seen [batch, met]`` and its ``attention_mask``.

    The candidates, ``item [items]``, are the whole catalog.
    """
    catalog = catalog_of(reading)
    users, item = catalog.users, torch.arange(len(catalog.items))
    batches = []
    for start in range(0, len(examples), size):
        chosen = examples[start : start + size]
        met = padded(
            [torch.tensor([*each.seen, *each.liked, *each.disliked], dtype=torch.int64) for each in chosen]
        )
        rows = torch.tensor([users[each.id] for each in chosen])
        batches.append({"user": rows, "seen": met, "attention_mask": (met >= 0).long(), "item": item})
    return batches


def run(model: nn.Module, batch: Batch, *, hidden: bool = False) -> Outputs:
    """Score the catalog.

    The items that were met are looked up as well, whether the model reads them or not: how often an item is
    met is what its row counts when the table is factored.
    """
    del hidden
    if isinstance(model.items, nn.Module):
        model.items(batch["seen"].clamp(min=0))
    return Outputs(result=call(model, batch))


def distance(result: Tensor, reference: Tensor) -> Tensor:
    """Divergence of the probabilities of a like, ``[batch]``, a mean over the catalog."""
    return divergence(result, reference)


def probe(result: Tensor) -> Tensor:
    """A random direction of the log-odds, each by the root of its curvature, ``p (1 - p) / items``."""
    chance = torch.sigmoid(result.detach())
    curvature = chance * (1 - chance) / result.shape[-1]
    scalar: Tensor = (result * curvature.sqrt() * torch.randn_like(result)).sum()
    return scalar


def losses(
    teacher: nn.Module,
    reading: Reading,
    examples: Sequence[History],
    settings: Finetune,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Loss:
    """The dense model's probabilities of a like, and the loss it was trained with where that has weight."""
    del scratch, progress
    users = catalog_of(reading).users
    device = next(teacher.parameters()).device
    layout = teacher.layout
    lengths = tuple(len(each.liked) + len(each.disliked) for each in examples)

    def loss(model: nn.Module, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        chosen = [examples[index] for index in batch_of_step(lengths, settings.batch, seed, number)]
        rows = [users[each.id] for each in chosen]
        taught = teach(chosen, rows, layout.items, generator).on(device)  # type: ignore[union-attr, arg-type]
        scores = call(model, taught.batch)
        with torch.no_grad():
            reference = call(teacher, taught.batch)
        total = settings.distill.logits * divergence(scores, reference).mean()
        if settings.task_loss > 0:
            own = own_loss(scores, taught, layout.loss, layout.unseen, generator)  # type: ignore[union-attr, arg-type]
            total = total + settings.task_loss * own
        return total

    return loss


def validator(
    dense: nn.Module, reading: Reading, examples: Sequence[History]
) -> Callable[[nn.Module], float]:
    """Minus the divergence from the dense model's probabilities of a like: smooth, where rankings jump."""
    batches = _batches(dense, reading, examples)
    with torch.inference_mode():
        references = [call(dense, batch) for batch in batches]

    @torch.inference_mode()
    def closeness(model: nn.Module) -> float:
        pairs = zip(batches, references, strict=True)
        found = [divergence(call(model, batch), reference) for batch, reference in pairs]
        return -float(torch.cat(found).mean())

    return closeness


def goodness(reading: Reading, examples: Sequence[History]) -> Callable[[nn.Module], float]:
    """AUC and NDCG together: what picks the best epoch of a model that is trained from nothing."""

    def both(model: nn.Module) -> float:
        own = rank(model, reading, examples)
        found = recommendation_scores(examples, own, own)
        return found["auc"].value + found["ndcg@20"].value

    return both


def scorer(dense: nn.Module, reading: Reading, examples: Sequence[History]) -> Score:
    """Every metric, as ``validate`` measures them of packages."""
    references = rank(dense, reading, examples)

    def score(model: nn.Module) -> dict[str, float]:
        own = references if model is dense else rank(model, reading, examples)
        found = recommendation_scores(examples, own, references)
        return {metric: scores.value for metric, scores in found.items()}

    return score


@torch.inference_mode()
def rank(model: nn.Module, reading: Reading, examples: Sequence[History]) -> list[Ranked]:
    """What a model says of each user, who has met what they had before."""
    batches = _batches(model, reading, examples)
    scores = [row for batch in batches for row in call(model, batch).float().cpu().numpy()]
    return [ranked(row, each) for row, each in zip(scores, examples, strict=True)]


def _batches(model: nn.Module, reading: Reading, examples: Sequence[History]) -> list[Batch]:
    """The users in their order, where the model is; what they met is what they had before."""
    device = next(model.parameters()).device
    before = [replace(each, liked=(), disliked=()) for each in examples]
    batches = example_batches(reading, before, _BATCH)
    return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]


def graphs(model: nn.Module, reading: Reading, examples: Sequence[History]) -> list[GraphSpec]:
    """One graph: users, and what they have seen or the candidates where the model reads that; scores out.

    The parity cases are of two users (traced: sizes 0 and 1 would be taken for constants), one, and three.
    """
    model = folded(model)
    names: tuple[str, ...] = model.inputs  # type: ignore[assignment]
    chosen = spread(examples, 6)
    catalog = catalog_of(reading)
    users, items = catalog.users, torch.arange(len(catalog.items))
    cases = []
    for number, group in enumerate((chosen[:2], chosen[2:3] or chosen[:1], chosen[3:] or chosen[:1])):
        batch = {
            "user": torch.tensor([users[each.id] for each in group]),
            "seen": padded([torch.tensor(each.seen[:8], dtype=torch.int64) for each in group]),
            "item": items[: (None, 3, 7)[number]],
        }
        cases.append({name: batch[name] for name in names})
    axes = {"user": {0: "batch"}, "seen": {0: "batch", 1: "met"}, "item": {0: "candidates"}}
    scored = {0: "batch", 1: "candidates"} if "item" in names else {0: "batch"}
    return [
        GraphSpec(
            role="model",
            module=model,
            cases=tuple(cases),
            dynamic_axes={name: axes[name] for name in names},
            outputs=("scores",),
            output_axes={"scores": scored},
            # The catalog is the same matrix: a model that reads no items runs only that.
            idle=(token_table(model),) if names == ("user",) and hasattr(model, "items") else (),
        )
    ]


def package_settings(model: nn.Module, reading: Reading) -> dict[str, int | str]:
    """Nothing: what the rows are is in files of their own."""
    del model, reading
    return {}


def furnish(
    folder: Path,
    model: nn.Module,
    dense: nn.Module,
    reading: Reading,
    examples: Sequence[History],
    progress: Progress,
) -> Arrays:
    """Copy the lists of users and items; return what the dense model says of each user; see ``Task``."""
    del model
    for file in (USERS, ITEMS):
        shutil.copyfile(reading.folder / file, folder / file)
    with progress.bar("ranking the catalog", 1) as advance:
        found = rank(dense, reading, examples)
        advance()
    return pack_ranked(found)
