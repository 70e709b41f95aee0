from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelr.errors import DamagedArtifactError, DataError
from edgelr.examples import Example, Utterance, write_examples
from edgelr.runtime.audio import read_audio
from edgelr.runtime.examples import example_sound, folder_examples


def test_they_come_back_in_their_order(tmp_path: Path) -> None:
    written = (Example(id="b", group="g", passage="p", query="q"), Example(id="a", group="g", passage=""))
    write_examples(tmp_path / "examples.jsonl", written)
    assert folder_examples(tmp_path, Example) == written


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no examples"),
        (b"\xff\xfe", "cannot be read"),
        (b"{}\n", "examples.jsonl:1: not an example"),
        (b'{"id": "a", "group": "g", "passage": 5}\n', "examples.jsonl:1: .*not text"),
        (b'{"id": "a", "group": "g", "passage": "p", "query": 0}\n', "examples.jsonl:1: .*not text"),
    ],
)
def test_what_is_unusable_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "examples.jsonl").write_bytes(content)
    with pytest.raises(DamagedArtifactError, match=message):
        folder_examples(tmp_path, Example)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match=r"examples\.jsonl cannot be read"):
        folder_examples(tmp_path, Example)


# --- sounds -----------------------------------------------------------------------------------------


def test_a_sound_of_a_package_is_read(sounds: Path, utterances: tuple[Utterance, ...]) -> None:
    found = example_sound(sounds, utterances[2])
    assert np.array_equal(found, read_audio(sounds / utterances[2].audio))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.flac", "audio/../../a.flac", "examples.jsonl", "audio", "Audio/a.flac"]
)
def test_no_sound_is_read_from_elsewhere(sounds: Path, utterances: tuple[Utterance, ...], name: str) -> None:
    with pytest.raises(DamagedArtifactError, match=rf"examples\.jsonl: '{name}' is not in audio/"):
        example_sound(sounds, replace(utterances[0], audio=name))


def test_sounds_that_were_taken_out_are_named(tmp_path: Path, utterances: tuple[Utterance, ...]) -> None:
    with pytest.raises(DataError, match="has no audio/: the sounds that its accuracy is measured on were"):
        example_sound(tmp_path, utterances[0])
    (tmp_path / "audio").mkdir()
    with pytest.raises(DataError, match=r"00\.flac cannot be read: No such file"):
        example_sound(tmp_path, utterances[0])
