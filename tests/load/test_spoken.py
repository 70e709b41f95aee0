import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

espeakng_loader = pytest.importorskip("espeakng_loader")
pytest.importorskip("soxr")

from edgelr.artifacts import SPLITS, Split  # noqa: E402
from edgelr.load.speech_synthesis import SAMPLE_RATE  # noqa: E402
from edgelr.load.spoken import (  # noqa: E402
    _SPEAKERS,
    Spoken,
    clean,
    draw_voice,
    heard,
    phrases_of,
    split_of,
    spoken,
)

ROOT = Path(__file__).parent.parent.parent
VOICES = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
HELD_OUT: tuple[Split, ...] = ("validation", "test")


@pytest.fixture(scope="module")
def said() -> dict[Split, list[Spoken]]:
    """The first utterances of every split."""
    return {split: list(islice(spoken(split, 0), 12)) for split in SPLITS}


# --- what is not shared -------------------------------------------------------------------------------


def test_no_phrase_is_in_two_splits():
    phrases = {split: {phrase.text for phrase in islice(phrases_of(split, 0), 500)} for split in SPLITS}
    assert {len(texts) for texts in phrases.values()} == {500}, "nor twice in one"
    assert len(set().union(*phrases.values())) == 4 * 500


def test_a_phrase_is_in_the_same_split_whatever_the_seed():
    for split in SPLITS:
        for seed in (0, 1):
            assert {split_of(phrase.text) for phrase in islice(phrases_of(split, seed), 100)} == {split}


def test_most_phrases_are_for_training():
    splits = [split_of(f"phrase {number}") for number in range(5000)]
    shares = {split: splits.count(split) / 5000 for split in SPLITS}
    assert shares == pytest.approx(
        {"train": 0.7, "calibration": 0.1, "validation": 0.1, "test": 0.1}, abs=0.02
    )


def test_no_speaker_of_a_held_out_split_is_in_another():
    for split in HELD_OUT:
        others = {name for other in SPLITS if other != split for name in _SPEAKERS[other]}
        assert not {name.lower() for name in _SPEAKERS[split]} & {name.lower() for name in others}
        assert len(_SPEAKERS[split]) >= 8
    assert _SPEAKERS["calibration"] == _SPEAKERS["train"], "it stands for the training"
    assert set(_SPEAKERS) == set(get_args(Split))


def test_every_speaker_exists_and_is_another():
    """Of one that does not exist espeak-ng silently speaks as some other one."""
    names = [name for split in ("train", *HELD_OUT) for name in _SPEAKERS[split]]
    assert len(names) == len(set(names))
    assert {name for name in names if not (VOICES / name).is_file()} == set()
    sounds = {frozenset(settings(VOICES / name)) for name in names}
    assert len(sounds) == len(names)


def settings(path: Path) -> list[str]:
    """What makes the sound of a voice: all lines but those that name it."""
    lines = (line.split("//")[0].strip() for line in path.read_text(errors="replace").splitlines())
    return [line for line in lines if line and line.split()[0] not in {"name", "language", "gender"}]


def test_noises_of_splits_differ():
    pcm = np.zeros(SAMPLE_RATE, np.float32)
    pcm[0] = 1
    noises = [heard(pcm, np.random.default_rng([0, *split.encode(), 0])) for split in SPLITS]
    assert all(not np.array_equal(noises[0], other) for other in noises[1:])


# --- what is drawn ------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_utterances_are_speech_in_noise(said, split):
    for each in said[split]:
        assert (each.pcm.dtype, each.pcm.ndim) == (np.float32, 1)
        assert 0.3 < len(each.pcm) / SAMPLE_RATE < 10, "a window of the recipe's model"
        assert 0.099 < np.abs(each.pcm).max() <= 0.9001
        assert np.isfinite(each.pcm).all()
        assert each.voice.name.split("+")[1] in _SPEAKERS[split]
        assert split_of(each.text) == split
        assert 130 <= each.voice.words_per_minute < 220
        assert 30 <= each.voice.pitch <= 70
        assert 30 <= each.voice.range <= 70


def test_utterances_vary(said):
    everything = [each for split in SPLITS for each in said[split]]
    assert len({each.text for each in everything}) == len(everything)
    assert len({each.voice for each in everything}) == len(everything)


def test_the_same_seed_draws_the_same_phrases_and_voices(said):
    """The samples are the same in a fresh process only, see below."""
    again = list(islice(spoken("test", 0), 12))
    assert [(each.text, each.voice) for each in again] == [(each.text, each.voice) for each in said["test"]]
    other = list(islice(spoken("test", 1), 12))
    assert [each.text for each in other] != [each.text for each in again]
    assert [each.voice for each in other] != [each.voice for each in again]


def test_in_a_fresh_process_the_same_seed_gives_the_same_samples():
    code = (
        "import hashlib, itertools; from edgelr.load.spoken import spoken; "
        "some = itertools.islice(spoken('test', 0), 5); "
        "print([hashlib.sha256(each.pcm.tobytes()).hexdigest() for each in some])"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(made) == 1


def test_every_accent_and_every_speaker_is_drawn():
    random = np.random.default_rng(0)
    drawn = [draw_voice("test", random).name.split("+") for _ in range(300)]
    assert len({accent for accent, _ in drawn}) == 7
    assert {speaker for _, speaker in drawn} == set(_SPEAKERS["test"])


def test_there_is_some_silence_around_the_speech():
    random = np.random.default_rng(0)
    phrase = next(iter(phrases_of("test", 0)))
    pcm = clean(phrase, draw_voice("test", random), random)
    loud = np.flatnonzero(np.abs(pcm) > 0)
    assert loud[0] >= 0.05 * SAMPLE_RATE
    assert len(pcm) - loud[-1] > 0.05 * SAMPLE_RATE


def test_a_third_is_heard_in_a_room():
    """After a click only a room is louder than the noise, which is at least 8 dB weaker than the whole."""
    pcm = np.zeros(SAMPLE_RATE // 2, np.float32)
    pcm[100] = 1
    sounds = [np.abs(heard(pcm, np.random.default_rng(seed))) for seed in range(300)]
    share = np.mean([sound[101:200].max() > 0.02 * sound.max() for sound in sounds])
    assert 0.2 < share < 0.4, "of some rooms the echoes are weak"
