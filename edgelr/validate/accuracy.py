"""Accuracy on the package's own examples: the same code, texts and reference for every variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgelr.artifacts import BASELINES, Package
from edgelr.kinds.kind import kind_of
from edgelr.metrics.bootstrap import difference, interval
from edgelr.runtime.examples import folder_examples
from edgelr.verdict import AccuracyRow

if TYPE_CHECKING:
    from edgelr.kinds.kind import Sessions
    from edgelr.metrics.scores import Scores


def score_variant(
    package: Package, sessions: Sessions, reference: Package, each: Callable[[], object] | None = None
) -> dict[str, Scores]:
    """Run a variant on its examples and score it against the dense model.

    Args:
        package: The variant.
        sessions: Its graphs by role, open on the device.
        reference: The package whose stored dense outputs count, the same for every variant.
        each: Called after every run.

    Returns:
        Metric name -> its scores.

    Raises:
        DamagedArtifactError: Examples and reference do not fit each other.
        ExportError, QuantizeError: An output is not finite.
        UnsupportedModelError: The task is unknown, or the graph does not fit it.
    """
    kind = kind_of(package)
    examples = folder_examples(package.folder, kind.EXAMPLE)
    judge = kind.judge(examples, package.folder)
    dense = kind.dense_answers(reference, len(examples))
    return judge.score(judge.answer(package, sessions, each), dense)


def reference_scores(package: Package) -> dict[str, float]:
    """Every metric of the dense model, from the outputs of it that are stored in the package.

    Args:
        package: Any variant.

    Raises:
        DamagedArtifactError: Examples and reference do not fit each other.
        UnsupportedModelError: The task is unknown.
    """
    kind = kind_of(package)
    examples = folder_examples(package.folder, kind.EXAMPLE)
    dense = kind.dense_answers(package, len(examples))
    found = kind.judge(examples, package.folder).score(dense, dense)
    return {metric: scores.value for metric, scores in found.items()}


def runs_to_score(package: Package) -> int:
    """How many runs ``score_variant`` takes, for a progress bar.

    Args:
        package: Any variant.

    Raises:
        DamagedArtifactError: The examples are unusable.
        UnsupportedModelError: The task is unknown.
    """
    kind = kind_of(package)
    return kind.RUNS * len(folder_examples(package.folder, kind.EXAMPLE))


def accuracy_rows(scores: Mapping[str, Scores], *, variant: str, device: str) -> tuple[AccuracyRow, ...]:
    """Value and 95 % bootstrap interval of every metric.

    Args:
        scores: By metric name.
        variant: What the rows name.
        device: What the rows name.
    """
    rows = []
    for metric, found in scores.items():
        value, low, high = interval(found)
        rows.append(
            AccuracyRow(
                variant=variant,
                device=device,
                metric=metric,
                value=value,
                ci95=(low, high),
                examples=found.examples,
            )
        )
    return tuple(rows)


def difference_notes(scores: Mapping[str, Mapping[str, Scores]], *, device: str) -> tuple[str, ...]:
    """Say of every metric how far what is released is from the dense model, on the same examples.

    The paired interval is much tighter than what the two intervals of their own suggest.

    Args:
        scores: By variant and metric name.
        device: What the notes name.
    """
    dense = scores.get("dense-fp32")
    if dense is None:
        return ()
    notes = []
    for variant in (name for name in scores if name not in BASELINES):
        for metric, found in scores[variant].items():
            change, low, high = difference(found, dense[metric])
            found_there = f"{change:+.4f} [{low:+.4f}, {high:+.4f}] ({device}, paired)"
            notes.append(f"{metric}, {variant} less dense-fp32: {found_there}")
    return tuple(notes)
