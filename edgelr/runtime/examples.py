"""The examples that travel in a package: its accuracy test, and the texts it can be searched for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgelr.errors import DamagedArtifactError, DataError
from edgelr.examples import Row, Utterance, read_examples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXAMPLES = "examples.jsonl"
AGAIN = "get or build the package again"


def folder_examples(folder: Path, kind: type[Row]) -> tuple[Row, ...]:
    """The examples of a package, at least one, checked to be texts.

    Args:
        folder: Holds ``examples.jsonl``.
        kind: That of the task's examples.

    Raises:
        DamagedArtifactError: The file is missing, empty or malformed.
    """
    path = folder / EXAMPLES
    try:
        examples = read_examples(path, kind)
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedArtifactError(f"{path} cannot be read: {error}", AGAIN) from error
    if not examples:
        raise DamagedArtifactError(f"{path} has no examples", AGAIN)
    return examples


def example_sound(folder: Path, example: Utterance) -> NDArray[np.float32]:
    """The sound of an example of a package.

    Args:
        folder: Holds ``examples.jsonl`` and the sounds.
        example: One of these examples.

    Returns:
        PCM ``[samples]`` of 16 kHz.

    Raises:
        DataError: The sounds were taken out of the package.
        DamagedArtifactError: The path leads out of the package.
        MissingRequirementError: soundfile is not installed.
    """
    from edgelr.runtime.audio import read_audio
    from edgelr.runtime.package import SOUNDS

    if not example.audio.startswith(SOUNDS) or ".." in Path(example.audio).parts:
        raise DamagedArtifactError(f"{folder / EXAMPLES}: {example.audio!r} is not in {SOUNDS}", AGAIN)
    if not (folder / SOUNDS).is_dir():
        raise DataError(
            f"{folder} has no {SOUNDS}: the sounds that its accuracy is measured on were taken out", AGAIN
        )
    return read_audio(folder / example.audio)
