"""Recordings read from folders that are laid out like those of the hub: parquet with encoded sounds."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgelr.errors import DataError
from edgelr.examples import Utterance
from edgelr.load.utterances_dataset import read_utterances_dataset
from edgelr.progress import Progress
from edgelr.recipe.tasks import UtterancesDataset
from edgelr.runtime.audio import read_audio

TEXTS = ["one", "two three", "One ", "four"]
KINDS = [("WAV", 16_000), ("FLAC", 8000), ("OGG", 48_000), ("WAV", 44_100)]


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def encoded(pcm: Any, kind: str, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, pcm, rate, format=kind)
    return file.getvalue()


def rows_of(speech: Any) -> list[dict[str, Any]]:
    """Sounds of several kinds, as the hub keeps them: bytes, and the name that they had."""
    rows = []
    for number, (text, (kind, rate)) in enumerate(zip(TEXTS, KINDS, strict=True)):
        sound = encoded(speech(number, 2.0)[: rate // 2], kind, rate)
        name = f"../clip {number}.{kind.lower()}"
        rows.append(
            {"audio": {"bytes": sound, "path": name}, "text": text, "speaker_id": number % 2, "length": 7}
        )
    return rows


Writes = Callable[..., Path]


def read(folder: Path, progress: Progress | None = None, **settings: Any) -> tuple[Utterance, ...]:
    data = UtterancesDataset.model_validate({"source": "dataset", "id": folder.name, **settings})
    scratch = folder.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return read_utterances_dataset(data, folder.parent, scratch, progress or Progress(quiet=True))


def test_sounds_of_any_kind_are_read(tmp_path: Path, speech: Any, write_clips: Writes) -> None:
    rows = rows_of(speech)
    found = read(write_clips(tmp_path / "clips", rows))
    assert [(each.id, each.text, each.group) for each in found] == [
        ("row-0", "one", "one"),
        ("row-1", "two three", "two three"),
        ("row-2", "One", "one"),
        ("row-3", "four", "four"),
    ], "rows with the same text are a group"
    for each, row in zip(found, rows, strict=True):
        path = Path(each.audio)
        assert path.parent == tmp_path / "scratch", "whatever name a stranger gave"
        assert path.read_bytes() == row["audio"]["bytes"]
        assert len(read_audio(path)) == 8000
    assert [Path(each.audio).suffix for each in found] == [".wav", ".flac", ".ogg", ".wav"]


def test_columns_split_and_number_of_rows_are_the_recipes(
    tmp_path: Path, speech: Any, write_clips: Writes
) -> None:
    rows = rows_of(speech)
    folder = write_clips(tmp_path / "clips", rows)
    write_clips(folder, rows[2:], "validation")
    assert [each.group for each in read(folder, group="speaker_id")] == ["0", "1", "0", "1"]
    assert [each.text for each in read(folder, split="validation")] == ["One", "four"]
    assert [each.text for each in read(folder, rows=1)] == ["one"]
    with pytest.raises(
        DataError, match="clips has no column 'sound'; it has audio, length, speaker_id, text"
    ):
        read(folder, audio="sound")
    with pytest.raises(DataError, match=r"task\.data\.group: clips has no column 'speaker'"):
        read(folder, group="speaker")
    with pytest.raises(DataError, match=r"clips has .* in 'text', which should be sounds, and"):
        read(folder, audio="text")
    with pytest.raises(DataError, match="the dataset 'clips' cannot be read: Unknown split"):
        read(folder, split="test")


def test_rows_without_a_sound_or_a_text_are_left_out_with_a_note(
    tmp_path: Path, speech: Any, write_clips: Writes, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(speech)
    rows[0]["text"], rows[1]["audio"] = " ", None
    rows[2]["text"] = None
    found = read(write_clips(tmp_path / "clips", rows), Progress())
    assert [each.id for each in found] == ["row-3"], "a row keeps its number"
    assert "3 of 4 rows lack a sound or a text and are left out" in capsys.readouterr().err


def test_paths_in_a_list_are_for_another_source(tmp_path: Path) -> None:
    (tmp_path / "clips" / "data").mkdir(parents=True)
    (tmp_path / "clips" / "data" / "train.jsonl").write_text('{"audio": "a.wav", "text": "one"}\n')
    with pytest.raises(DataError, match=r"has .*string.* in 'audio', which should (.|\n)*source: file"):
        read(tmp_path / "clips")


def test_the_names_of_sounds_go_nowhere_else(tmp_path: Path, speech: Any, write_clips: Writes) -> None:
    rows = rows_of(speech)[:2]
    rows[0]["audio"]["path"], rows[1]["audio"]["path"] = "a.wav/../../etc", None
    found = read(write_clips(tmp_path / "clips", rows))
    assert [Path(each.audio).name for each in found] == ["row-0", "row-1"]
    assert all(np.isfinite(read_audio(Path(each.audio))).all() for each in found)
