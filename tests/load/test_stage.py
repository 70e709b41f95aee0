import json
import shutil
from pathlib import Path

import pytest

from edgelr.artifacts import SPLITS
from edgelr.errors import DataError
from edgelr.examples import Example, Utterance
from edgelr.load.stage import load
from edgelr.progress import Progress
from edgelr.recipe.load import load_recipe
from edgelr.runtime.audio import read_audio


def run(recipe_path: Path, model: Path, folder: Path):
    folder.mkdir()
    return load(load_recipe(recipe_path), recipe_path.parent, model, folder, Progress(quiet=True))


def test_a_source_has_its_splits_and_describes_the_model(tiny_recipe, tiny_model, tmp_path):
    source = run(tiny_recipe, tiny_model, tmp_path / "a")
    assert source.counts == {"train": 40, "calibration": 20, "validation": 10, "test": 20}
    assert [len(source.examples(split, Example)) for split in SPLITS] == [
        source.counts[split] for split in SPLITS
    ]
    assert source.license == "apache-2.0"
    again = run(tiny_recipe, tiny_model, tmp_path / "b")
    for split in SPLITS:
        assert source.examples(split, Example) == again.examples(split, Example)


def test_an_empty_data_set(tiny_recipe, tiny_model, tmp_path, pairs_file):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    text = tiny_recipe.read_text().replace(str(pairs_file), str(empty))
    tiny_recipe.write_text(text)
    with pytest.raises(DataError, match="is empty"):
        run(tiny_recipe, tiny_model, tmp_path / "a")


# --- speech -----------------------------------------------------------------------------------------

SPEECH = """\
edgelr: 1
name: speech
task:
  type: automatic-speech-recognition
  {window}
  data: {{{data}, train: 2, validation: 1, test: 3}}
model: {{path: model}}
compress: {{keep: {{parameters: 0.5}}, calibration: {{examples: 2, sensitivity_examples: 1}}}}
"""


def speech_recipe(folder: Path, data: str, window: str = "") -> Path:
    path = folder / "speech.yaml"
    path.write_text(SPEECH.format(data=data, window=window))
    return path


def test_sounds_are_kept_with_the_examples(sounds, tiny_whisper, tmp_path):
    recipe = speech_recipe(tmp_path, "source: file, path: sounds/utterances.jsonl")
    (tmp_path / "sounds").symlink_to(sounds)
    source = run(recipe, tiny_whisper, tmp_path / "a")
    assert source.counts == {"train": 2, "calibration": 2, "validation": 1, "test": 3}
    seen = set()
    for split in SPLITS:
        for example in source.examples(split, Utterance):
            assert example.audio.startswith(f"audio/{split}-")
            assert len(read_audio(source.folder / "data" / example.audio)) >= 8000
            seen.add(example.id)
    assert len(seen) == 8


def test_sounds_longer_than_the_candidates_window_are_left_out(sounds, tiny_whisper, tmp_path):
    """Of twelve, from 0.5 to 2 s, eight have at most 1.5 s."""
    (tmp_path / "sounds").symlink_to(sounds)
    data = "source: file, path: sounds/utterances.jsonl"
    source = run(speech_recipe(tmp_path, data, "window_s: 1.5"), tiny_whisper, tmp_path / "a")
    for split in SPLITS:
        for example in source.examples(split, Utterance):
            assert len(read_audio(source.folder / "data" / example.audio)) <= 24_000
    with pytest.raises(DataError, match=r"were asked for the \w+ split"):
        run(speech_recipe(tmp_path, data, "window_s: 0.8"), tiny_whisper, tmp_path / "b")


def test_a_sound_that_is_not_there_is_named_with_its_line(tiny_whisper, tmp_path):
    (tmp_path / "a.tsv").write_text("gone.wav\tone\n")
    with pytest.raises(DataError, match=r"a\.tsv:1: there is no file 'gone\.wav'"):
        run(speech_recipe(tmp_path, "source: file, path: a.tsv"), tiny_whisper, tmp_path / "a")


def test_phrases_are_spoken_where_they_are_asked_for(tiny_whisper, tmp_path):
    pytest.importorskip("espeakng_loader")
    source = run(speech_recipe(tmp_path, "source: spoken-phrases"), tiny_whisper, tmp_path / "a")
    (first, *_) = source.examples("test", Utterance)
    assert first.id == "test-00000"
    assert len(read_audio(source.folder / "data" / first.audio)) > 1600


def test_sounds_longer_than_the_model_reads_are_left_out(sounds, tiny_whisper, tmp_path):
    """Their transcripts would tell what it never hears."""
    model = Path(shutil.copytree(tiny_whisper, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_source_positions": 80}))
    (tmp_path / "sounds").symlink_to(sounds)
    data = "source: file, path: sounds/utterances.jsonl"
    for number, window in enumerate(("", "window_s: 30")):
        source = run(speech_recipe(tmp_path, data, window), model, tmp_path / f"a{number}")
        for split in SPLITS:
            for example in source.examples(split, Utterance):
                assert len(read_audio(source.folder / "data" / example.audio)) <= 1.6 * 16_000


def test_recordings_of_the_hub_are_kept_like_files(
    sounds, utterances, tiny_whisper, tmp_path, write_clips, monkeypatch
):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    rows = [
        {"audio": {"bytes": (sounds / each.audio).read_bytes(), "path": "a.flac"}, "text": each.text}
        for each in utterances
    ]
    write_clips(tmp_path / "clips", rows)
    source = run(speech_recipe(tmp_path, "source: dataset, id: clips"), tiny_whisper, tmp_path / "a")
    expected = {each.text: read_audio(sounds / each.audio) for each in utterances}
    for example in source.examples("test", Utterance):
        assert (read_audio(source.folder / "data" / example.audio) == expected[example.text]).all()
    assert sorted(path.name for path in source.folder.iterdir()) == ["data", "source.json"], "nothing else"
