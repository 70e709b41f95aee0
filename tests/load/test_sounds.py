"""Sounds that are kept with a data set: from files of any kind, and of spoken phrases."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgelr.artifacts import SPLITS, Split
from edgelr.errors import DataError
from edgelr.examples import Utterance
from edgelr.load.sounds import keep_sounds, manifest_digest, short_enough, speak_phrases
from edgelr.load.utterances_file import read_utterances
from edgelr.progress import Progress
from edgelr.runtime.audio import read_audio

QUIET = Progress(quiet=True)


class Notes(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def spoken_files(tmp_path: Path, speech: Any) -> tuple[Utterance, ...]:
    """Wavs of several rates and channels, by absolute path."""
    found = []
    for number, (rate, channels, subtype) in enumerate(
        [(16_000, 1, "PCM_16"), (8000, 1, "PCM_U8"), (44_100, 2, "PCM_24"), (16_000, 2, "FLOAT")]
    ):
        path = tmp_path / f"{number}.wav"
        pcm = speech(number, 1.0 + number)
        pcm = np.interp(np.arange(round(len(pcm) * rate / 16_000)) * 16_000 / rate, np.arange(len(pcm)), pcm)
        soundfile.write(path, np.stack([pcm] * channels, 1), rate, subtype=subtype)
        found.append(Utterance(id=f"{number}", group=f"{number}", audio=str(path), text="one"))
    return tuple(found)


# --- which ones fit -------------------------------------------------------------------------------------


def test_sounds_longer_than_the_window_are_left_out_and_that_is_said(
    spoken_files: tuple[Utterance, ...],
) -> None:
    progress = Notes()
    assert short_enough(spoken_files, 2.5, progress) == spoken_files[:2]
    assert progress.said == ["2 utterances are left out: longer than 2.5 s"]
    quiet = Notes()
    assert short_enough(spoken_files, 30.0, quiet) == spoken_files
    assert quiet.said == []


def test_a_sound_as_long_as_the_window_fits(spoken_files: tuple[Utterance, ...]) -> None:
    assert len(short_enough(spoken_files, 4.0, QUIET)) == 4


# --- which ones changed ---------------------------------------------------------------------------------


def test_a_manifest_is_another_when_a_line_or_a_sound_is(sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    for path in (sounds / "audio").iterdir():
        (tmp_path / "audio" / path.name).write_bytes(path.read_bytes())
    manifest = tmp_path / "utterances.jsonl"
    manifest.write_bytes((sounds / "utterances.jsonl").read_bytes())
    first = manifest_digest(manifest)
    assert manifest_digest(manifest) == first
    path = tmp_path / "audio" / "03.flac"
    path.write_bytes(path.read_bytes() + b"x")
    second = manifest_digest(manifest)
    lines = manifest.read_text().splitlines()
    manifest.write_text("".join(line + "\n" for line in lines[:-1]))
    third = manifest_digest(manifest)
    assert len({first, second, third}) == 3
    path.unlink()
    with pytest.raises(DataError, match=r"utterances\.jsonl:4: there is no file 'audio/03\.flac'"):
        manifest_digest(manifest)


# --- copies ---------------------------------------------------------------------------------------------


def test_every_sound_is_kept_as_16_khz_flac(spoken_files: tuple[Utterance, ...], tmp_path: Path) -> None:
    splits: dict[Split, Any] = {"train": spoken_files[:2], "test": spoken_files[2:]}
    kept = keep_sounds(splits, tmp_path / "data", QUIET)
    assert [each.audio for each in kept["train"]] == ["audio/train-00000.flac", "audio/train-00001.flac"]
    assert [each.audio for each in kept["test"]] == ["audio/test-00000.flac", "audio/test-00001.flac"]
    for split, given in splits.items():
        for one, other in zip(kept[split], given, strict=True):
            assert replace(one, audio=other.audio) == other
            info = soundfile.info(tmp_path / "data" / one.audio)
            assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
            expected = read_audio(Path(other.audio))
            found = read_audio(tmp_path / "data" / one.audio)
            assert np.abs(found - expected.clip(-1, 1)).max() <= 2**-15


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello there\n", r"odd\.wav is no sound file: it is text that begins with 'hello there'"),
        (b"", r"odd\.wav is an empty file"),
        (None, r"odd\.wav cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_sound_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "odd.wav"
    if content is not None:
        path.write_bytes(content)
    odd = Utterance(id="a", group="a", audio=str(path), text="one")
    with pytest.raises(DataError, match=message):
        short_enough([odd], 30.0, QUIET)
    with pytest.raises(DataError, match=message):
        keep_sounds({"train": [odd]}, tmp_path / "data", QUIET)


def test_a_sound_with_a_sample_that_is_no_number_is_named(tmp_path: Path) -> None:
    pcm = np.zeros(16_000, np.float32)
    pcm[8000] = np.nan
    soundfile.write(tmp_path / "nan.wav", pcm, 16_000, subtype="FLOAT")
    odd = Utterance(id="a", group="a", audio=str(tmp_path / "nan.wav"), text="one")
    with pytest.raises(DataError, match=r"nan\.wav: sample 8000 \(at 0\.500 s\) is not a finite number"):
        keep_sounds({"train": [odd]}, tmp_path / "data", QUIET)


@pytest.mark.parametrize("samples", [0, 1])
def test_a_sound_of_no_sample_is_named_and_one_of_one_is_kept(tmp_path: Path, samples: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(samples, 0.25, np.float32), 16_000)
    short = Utterance(id="a", group="a", audio=str(tmp_path / "a.wav"), text="one")
    if not samples:
        with pytest.raises(DataError, match=r"a\.wav is a sound without samples"):
            short_enough([short], 30.0, QUIET)
        return
    assert short_enough([short], 30.0, QUIET) == (short,)
    (kept,) = keep_sounds({"test": [short]}, tmp_path / "data", QUIET)["test"]
    assert read_audio(tmp_path / "data" / kept.audio).tolist() == [0.25]


def test_rows_of_a_manifest_are_what_is_kept(sounds: Path, utterances: Any, tmp_path: Path) -> None:
    examples = read_utterances(sounds / "utterances.jsonl")
    kept = keep_sounds({"test": examples}, tmp_path / "data", QUIET)["test"]
    assert [each.text for each in kept] == [each.text for each in utterances]
    for one, other in zip(kept, utterances, strict=True):
        assert np.array_equal(read_audio(tmp_path / "data" / one.audio), read_audio(sounds / other.audio))


# --- spoken phrases -------------------------------------------------------------------------------------


def test_phrases_are_spoken_for_every_split(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    counts: dict[Split, int] = {"train": 3, "calibration": 2, "validation": 1, "test": 2}
    made = speak_phrases(counts, 0, tmp_path / "data", QUIET)
    assert {split: len(each) for split, each in made.items()} == counts
    everything = [each for split in SPLITS for each in made[split]]
    assert len({each.text for each in everything}) == len({each.id for each in everything}) == 8
    assert made["test"][1].id == "test-00001"
    for each in everything:
        assert len(read_audio(tmp_path / "data" / each.audio)) > 1600
    voices = {split: {each.group for each in made[split]} for split in ("train", "test")}
    assert voices["train"].isdisjoint(voices["test"])
    again = speak_phrases({**counts, "train": 1}, 0, tmp_path / "again", QUIET)
    assert [each.text for each in again["test"]] == [each.text for each in made["test"]]
    assert again["train"][0] == made["train"][0]
    assert json.dumps([each.text for each in everything]).isascii()
