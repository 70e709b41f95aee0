"""The sounds of a data set, kept with it: 16 kHz, one channel, FLAC, beside the lists of examples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from edgelr.artifacts import SPLITS, Split
from edgelr.examples import Utterance
from edgelr.load.spoken import spoken
from edgelr.load.utterances_file import read_utterances
from edgelr.progress import Progress
from edgelr.runtime.audio import read_audio, seconds_of, write_flac

SOUNDS = "audio"


def short_enough(
    examples: Sequence[Utterance], longest_s: float, progress: Progress
) -> tuple[Utterance, ...]:
    """The examples whose sound fits into a window: a transcript cannot be cut where its sound is.

    Args:
        examples: ``audio`` is a path.
        longest_s: The window.
        progress: Where to say how many are left out.

    Raises:
        DataError: A sound cannot be read.
    """
    kept = tuple(each for each in examples if seconds_of(Path(each.audio)) <= longest_s)
    if len(kept) < len(examples):
        progress.note(f"{len(examples) - len(kept)} utterances are left out: longer than {longest_s:g} s")
    return kept


def manifest_digest(path: Path) -> str:
    """Hash of a file that lists sounds, and of what tells that one of them changed: size and time.

    Args:
        path: As of ``read_utterances``.

    Raises:
        OSError: It cannot be read.
        DataError: A line is malformed, or a sound is missing.
    """
    digest = hashlib.sha256(path.read_bytes())
    for example in read_utterances(path):
        found = Path(example.audio).stat()
        digest.update(f"{found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def keep_sounds(
    splits: Mapping[Split, Sequence[Utterance]], folder: Path, progress: Progress
) -> dict[Split, tuple[Utterance, ...]]:
    """Copy the sounds of all splits.

    Args:
        splits: ``audio`` is a path.
        folder: Where examples are listed.
        progress: Where to show how far it is.

    Returns:
        The same, ``audio`` relative to ``folder``.

    Raises:
        DataError: A sound cannot be read.
    """
    kept: dict[Split, tuple[Utterance, ...]] = {}
    (folder / SOUNDS).mkdir(parents=True)
    with progress.bar("reading sounds", sum(map(len, splits.values()))) as advance:
        for split, examples in splits.items():
            written = []
            for number, example in enumerate(examples):
                name = _name(split, number)
                write_flac(folder / name, read_audio(Path(example.audio)))
                written.append(replace(example, audio=name))
                advance()
            kept[split] = tuple(written)
    return kept


def speak_phrases(
    counts: Mapping[Split, int], seed: int, folder: Path, progress: Progress
) -> dict[Split, tuple[Utterance, ...]]:
    """Make every split of spoken phrases; see ``spoken.py``.

    Args:
        counts: Of each split.
        seed: The recipe's.
        folder: Where examples are listed.
        progress: Where to show how far it is.

    Raises:
        MissingRequirementError: What speaks is not installed.
    """
    made: dict[Split, tuple[Utterance, ...]] = {}
    (folder / SOUNDS).mkdir(parents=True)
    with progress.bar("speaking phrases", sum(counts.values())) as advance:
        for split in SPLITS:
            written = []
            for number, each in enumerate(islice(spoken(split, seed), counts[split])):
                name = _name(split, number)
                write_flac(folder / name, each.pcm)
                written.append(
                    Utterance(id=f"{split}-{number:05}", group=each.voice.name, audio=name, text=each.text)
                )
                advance()
            made[split] = tuple(written)
    return made


def _name(split: Split, number: int) -> str:
    return f"{SOUNDS}/{split}-{number:05}.flac"
