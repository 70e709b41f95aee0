"""Metrics of transcripts: against a reference, and against what the dense model writes.

Word and character error rates are counted by jiwer, over all utterances together: edits over words of the
references. Both texts are normalized before, see ``normalized``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgelr.errors import MissingRequirementError
from edgelr.metrics.scores import Scores, Values, mean_scores

if TYPE_CHECKING:
    from jiwer import CharacterOutput, WordOutput

    Aligned = Callable[[list[str], list[str]], WordOutput | CharacterOutput]

_APOSTROPHE = "'"
_APOSTROPHES = str.maketrans(
    dict.fromkeys("\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}", "'")
)
_BETWEEN_WORDS = {"P", "S"}  # Unicode's categories of punctuation and of symbols


def speech_scores(
    outputs: Sequence[str], references: Sequence[str], dense: Sequence[str]
) -> dict[str, Scores]:
    """Every metric of task ``automatic-speech-recognition``.

    Of ``wer``, ``cer`` and ``wer_to_dense`` lower is better. They are percent of the words (characters, with
    the spaces between words) of all references, at least one, and may be above 100: an output where nothing
    was said counts as insertions. An empty output there is right.

    Args:
        outputs: What the model writes, one text an utterance, at least one.
        references: What was said.
        dense: What the dense model writes.

    Returns:
        Metric name -> its scores. ``wer``, ``cer`` and ``exact_match`` (share of the outputs, 0 to 1) are
        against the references, ``wer_to_dense`` and ``agreement`` (share of the outputs, 0 to 1) against the
        dense model. All but ``agreement`` compare normalized texts.

    Raises:
        ValueError: There is no output, or the lists differ in length.
        MissingRequirementError: jiwer is not installed.
    """
    if not len(outputs) == len(references) == len(dense) > 0:
        raise ValueError(
            f"{len(outputs)} outputs, {len(references)} references, {len(dense)} dense outputs do not fit"
        )
    by_words, by_characters = _jiwer()
    written, said, dense_written = (
        [normalized(text) for text in texts] for texts in (outputs, references, dense)
    )
    return {
        "wer": _error_rate(by_words, written, said),
        "cer": _error_rate(by_characters, written, said),
        "exact_match": _equal(written, said),
        "wer_to_dense": _error_rate(by_words, written, dense_written),
        "agreement": _equal(outputs, dense),
    }


def normalized(text: str) -> str:
    """A transcript without what is not said.

    In this order: Unicode's NFKC and case folding; typographic apostrophes become plain ones; punctuation and
    symbols become spaces, but for apostrophes within words; white space is collapsed. Numbers stay as they
    are written, and nothing is known of any language.

    Args:
        text: Any.

    Returns:
        Words with single spaces between them; empty where nothing is said.

    Source:
        Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision (2022), appendix C, the
        normalizer for all languages, but that apostrophes and accents stay.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    spaced = "".join(_spaced(character) for character in folded.translate(_APOSTROPHES))
    words = (word.strip(_APOSTROPHE) for word in spaced.split())
    return " ".join(word for word in words if word)


def _spaced(character: str) -> str:
    if character != _APOSTROPHE and unicodedata.category(character)[0] in _BETWEEN_WORDS:
        return " "
    return character


def _equal(texts: Sequence[str], others: Sequence[str]) -> Scores:
    return mean_scores(np.array([one == other for one, other in zip(texts, others, strict=True)], np.float64))


def _error_rate(aligned: Aligned, outputs: list[str], references: list[str]) -> Scores:
    found = aligned(references, outputs)
    edits = [
        sum(
            max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            for chunk in chunks
            if chunk.type != "equal"
        )
        for chunks in found.alignments
    ]
    lengths = [len(reference) for reference in found.references]
    return Scores(statistics=np.array([edits, lengths], np.float64).T, combine=_percent)


def _percent(sums: Values, _: int) -> Values:
    rate: Values = 100 * sums[..., 0] / np.maximum(sums[..., 1], 1)
    return rate


def _jiwer() -> tuple[Aligned, Aligned]:
    try:
        from jiwer import process_characters, process_words
    except ImportError as error:
        raise MissingRequirementError("jiwer is not installed", "pip install 'edgelr[speech]'") from error
    return process_words, process_characters
