"""Utterances that are made: phrases by many voices, in noise and in rooms, as files of sound.

No phrase, no voice and no noise of one split is in another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgelr.artifacts import Split
from edgelr.load.speech_rooms import Pcm, colored_noise, in_a_room, mixed
from edgelr.load.speech_synthesis import SAMPLE_RATE, Voice, speak
from edgelr.load.spoken_phrases import Phrase, listed, phrases

_ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
_TRAINED = listed(
    "m1 m2 m3 m4 m6 m7 m8 f1 f2 f4 f5 Alex Andrea Annie Denis Diogo Gene Henrique Jacky Marco Mario Michael "
    "Nguyen Reed adam anika antonio aunty belinda benjamin boris caleb david ed edward gustave ian iven john "
    "kaukovalta klatt klatt2 klatt4 marcelo max miguel norbert pablo paul pedro quincy rob sandro shelby "
    "steph travis victor"
)
# Speakers of each split; those of calibration are those that were trained on: it stands for the training.
_SPEAKERS: dict[Split, list[str]] = {
    "train": _TRAINED,
    "calibration": _TRAINED,
    "validation": listed("Gene2 Mike edward2 iven2 klatt3 steph2 zac grandma"),
    "test": listed("m5 f3 Alicia Andy Hugo Lee linda michel robert grandpa iven3 klatt5"),
}
# Of ten phrases, by their hash: where each belongs.
_SHARES: tuple[Split, ...] = ("test", "validation", "calibration", *("train",) * 7)
_EDGE_S = (0.05, 0.4)  # silence before and after the speech


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """A phrase that was spoken.

    Attributes:
        text: What was said.
        voice: Who said it.
        pcm: ``[samples]`` of 16 kHz.
    """

    text: str
    voice: Voice
    pcm: Pcm


def spoken(split: Split, seed: int) -> Iterator[Spoken]:
    """Endless utterances of a split, no phrase twice; the same seed gives the same samples.

    Args:
        split: Which phrases, voices and noises.
        seed: Of everything that is drawn.

    Raises:
        MissingRequirementError: What speaks is not installed.
    """
    for number, phrase in enumerate(phrases_of(split, seed)):
        random = np.random.default_rng([seed, *split.encode(), number])
        voice = draw_voice(split, random)
        yield Spoken(text=phrase.text, voice=voice, pcm=heard(clean(phrase, voice, random), random))


def clean(phrase: Phrase, voice: Voice, random: np.random.Generator) -> Pcm:
    """A phrase as it leaves the mouth, with some silence around it."""
    before, after = (np.zeros(int(random.uniform(*_EDGE_S) * SAMPLE_RATE), np.float32) for _ in range(2))
    return np.concatenate([before, speak(phrase.spoken, voice), after])


def heard(pcm: Pcm, random: np.random.Generator) -> Pcm:
    """Speech as a microphone hears it: every third time in a room, always in some noise."""
    if random.random() < 1 / 3:
        pcm = in_a_room(pcm, random, reverberation_s=random.uniform(0.1, 0.4))
    noise = colored_noise(len(pcm), random, slope=random.uniform(0, 2), humps=int(random.integers(0, 4)))
    return mixed(pcm, noise, decibels=random.uniform(12, 40), loudness=random.uniform(0.1, 0.9))


def draw_voice(split: Split, random: np.random.Generator) -> Voice:
    """One of the split's voices, at some speed and pitch."""
    speaker, accent = random.choice(_SPEAKERS[split]), random.choice(_ACCENTS)
    return Voice(
        name=f"{accent}+{speaker}",
        words_per_minute=int(random.integers(130, 220)),
        pitch=int(random.integers(30, 71)),
        range=int(random.integers(30, 71)),
    )


def phrases_of(split: Split, seed: int) -> Iterator[Phrase]:
    """Endless phrases of a split, none twice."""
    seen = set()
    for phrase in phrases(f"{seed}"):
        if phrase.text not in seen and split_of(phrase.text) == split:
            seen.add(phrase.text)
            yield phrase


def split_of(text: str) -> Split:
    """The split that a phrase belongs to, whatever else there is."""
    return _SHARES[int(hashlib.sha256(text.encode()).hexdigest(), 16) % len(_SHARES)]
