"""Letters of CTC models: the likeliest of every position, or the likeliest of all that positions may mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from edgelr.artifact_files import read_json
from edgelr.errors import DamagedArtifactError
from edgelr.typed import AtLeast, WrongTypeError, typed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

LETTERS = "letters.json"
AGAIN = "get or build the package again"
_LIKELY = 1e-4  # a letter less likely than that starts no prefix


@dataclass(frozen=True, kw_only=True)
class Letters:
    """What the scores of a CTC model stand for.

    Attributes:
        letters: One for every score; empty for what is not written, such as the blank.
        blank: Which score stands for nothing.
        space: The letter that is written as a space.
    """

    letters: tuple[str, ...]
    blank: Annotated[int, AtLeast(0)]
    space: str

    def text(self, ids: Sequence[int]) -> str:
        """Letters, joined.

        Args:
            ids: Repetitions and blanks are gone.
        """
        joined = "".join(self.letters[each] for each in ids)
        return " ".join(joined.replace(self.space, " ").split())


def read_letters(folder: Path) -> Letters:
    """Read ``letters.json``.

    Args:
        folder: The package.

    Raises:
        DamagedArtifactError: It is missing or malformed.
    """
    path = folder / LETTERS
    document = read_json(path)
    try:
        letters = typed(Letters, document)
    except WrongTypeError as error:
        raise DamagedArtifactError(f"{path}: {error}", AGAIN) from error
    if letters.blank >= len(letters.letters):
        raise DamagedArtifactError(f"{path}: the blank {letters.blank} is no letter", AGAIN)
    return letters


def check_letters(folder: Path, letters: Letters, session: InferenceSession) -> None:
    """Check that there is a letter for every score.

    Args:
        folder: The package.
        letters: Its own.
        session: Of its model.

    Raises:
        DamagedArtifactError: There are more scores, or fewer.
    """
    size = next((entry.shape[-1] for entry in session.get_outputs() if entry.name == "logits"), None)
    if size != len(letters.letters):
        raise DamagedArtifactError(
            f"{folder / LETTERS} has {len(letters.letters)} letters, and the model scores {size}", AGAIN
        )


def likeliest(scores: NDArray[np.float32], blank: int) -> list[int]:
    """The likeliest letter of every position; those that repeat are one, blanks are none.

    Args:
        scores: ``[positions, letters]``, in any monotone measure.
        blank: Which letter stands for nothing.
    """
    return [letter for letter, _ in groupby(scores.argmax(axis=1).tolist()) if letter != blank]


def prefix_beam_search(scores: NDArray[np.float32], blank: int, beams: int) -> list[int]:
    """The likeliest letters, over all the ways in which positions may mean them.

    Args:
        scores: Log-probabilities ``[positions, letters]``.
        blank: Which letter stands for nothing.
        beams: Prefixes that are kept.

    Source:
        Graves et al., Connectionist Temporal Classification (2006), section 3.2; Hannun et al., First-Pass
        Large Vocabulary Continuous Speech Recognition (2014), algorithm 1, without a language model.
    """
    import numpy as np

    # Prefix -> probabilities that it ends in a blank, and that it ends in its last letter.
    kept: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}
    for row in np.exp(scores.astype(np.float64)):
        grown: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        likely = [int(each) for each in np.flatnonzero(row > _LIKELY) if each != blank]
        for prefix, (by_blank, by_letter) in kept.items():
            both = by_blank + by_letter
            grown[prefix][0] += both * float(row[blank])
            if prefix:
                grown[prefix][1] += by_letter * float(row[prefix[-1]])
            for letter in likely:
                again = bool(prefix) and letter == prefix[-1]
                grown[(*prefix, letter)][1] += (by_blank if again else both) * float(row[letter])
        best = sorted(grown, key=lambda prefix: -sum(grown[prefix]))[:beams]
        total = sum(sum(grown[prefix]) for prefix in best) or 1.0
        # In proportion: thousands of positions would be too unlikely for a float.
        kept = {prefix: (grown[prefix][0] / total, grown[prefix][1] / total) for prefix in best}
    return list(max(kept.items(), key=lambda item: item[1][0] + item[1][1])[0])
