"""Metrics of translations: against a reference, and against what the dense model says.

BLEU and chrF are sacrebleu's, with its default settings: what is published elsewhere is comparable where the
signature is the same. They are functions of counts summed over the examples; the counts and the function are
sacrebleu's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgelr.errors import MissingRequirementError
from edgelr.metrics.scores import Scores, Values, mean_scores

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF


def translation_scores(
    outputs: Sequence[str], references: Sequence[str], dense: Sequence[str]
) -> dict[str, Scores]:
    """Every metric of task ``translation``.

    Args:
        outputs: What the model says, one text an example, at least one.
        references: What it should say.
        dense: What the dense model says.

    Returns:
        Metric name -> its scores. ``bleu`` and ``chrf`` (0 to 100) and ``exact_match`` (share of the outputs,
        0 to 1) are against the references; ``agreement`` (share of the outputs, 0 to 1) and ``chrf_to_dense``
        (0 to 100) against the dense model.

    Raises:
        ValueError: There is no output, or the lists differ in length.
        MissingRequirementError: sacrebleu is not installed.
    """
    if not len(outputs) == len(references) == len(dense) > 0:
        raise ValueError(
            f"{len(outputs)} outputs, {len(references)} references, {len(dense)} dense outputs do not fit"
        )
    bleu, chrf = _bleu(), _chrf()
    return {
        "bleu": _corpus_scores(bleu, outputs, references),
        "chrf": _corpus_scores(chrf, outputs, references),
        "exact_match": _equal(outputs, references),
        "agreement": _equal(outputs, dense),
        "chrf_to_dense": _corpus_scores(chrf, outputs, dense),
    }


def signatures() -> dict[str, str]:
    """Metric name -> what sacrebleu calls its settings and version, of the metrics that are sacrebleu's.

    Raises:
        MissingRequirementError: sacrebleu is not installed.
    """
    bleu, chrf = _bleu(), _chrf()
    for metric in (bleu, chrf):
        metric.corpus_score([""], [[""]])  # a signature says how many references there were
    names = {"bleu": bleu, "chrf": chrf, "chrf_to_dense": chrf}
    return {name: str(metric.get_signature()) for name, metric in names.items()}


def _equal(texts: Sequence[str], others: Sequence[str]) -> Scores:
    return mean_scores(np.array([one == other for one, other in zip(texts, others, strict=True)], np.float64))


def _corpus_scores(metric: BLEU | CHRF, outputs: Sequence[str], references: Sequence[str]) -> Scores:
    def combine(sums: Values, examples: int) -> Values:
        counts = sums.reshape(-1, sums.shape[-1]).astype(np.int64).tolist()
        # Some ten microseconds each, and exactly the number that sacrebleu prints.
        values = [metric._compute_score_from_stats(row).score for row in counts]
        return np.array(values, np.float64).reshape(sums.shape[:-1])

    counts = metric._extract_corpus_statistics(outputs, [references])
    return Scores(statistics=np.array(counts, np.float64), combine=combine)


def _bleu() -> BLEU:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise _missing() from error
    return BLEU(force=True)  # without its warning of texts that end in " ."; the number is the same


def _chrf() -> CHRF:
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise _missing() from error
    return CHRF()


def _missing() -> MissingRequirementError:
    return MissingRequirementError("sacrebleu is not installed", "pip install 'edgelr[translation]'")
