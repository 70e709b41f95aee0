"""The package of the shipped teacher against transformers' generate(), token for token, on spoken phrases."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from edgelr.artifacts import SPLITS, Source
from edgelr.device.schema import Device
from edgelr.examples import Utterance, write_examples
from edgelr.export.stage import Label, export
from edgelr.load.spoken import spoken
from edgelr.progress import Progress
from edgelr.recipe.schema import Export
from edgelr.recipe.tasks import Recognize
from edgelr.runtime.audio import read_audio, write_flac
from edgelr.runtime.transcribe import Transcriber, generate, open_transcriber
from edgelr.tasks.speech_model import FEATURES, collate, load_model
from edgelr.tasks.task import Reading

pytestmark = pytest.mark.slow

TEACHER = Path(__file__).parents[2] / "recipes" / "spoken-commands" / "teacher"
COUNT = 50
MAX_TOKENS = 64
BATCH = 10


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Utterance, ...]]:
    """A folder of sounds, and what was said."""
    folder = tmp_path_factory.mktemp("spoken")
    (folder / "audio").mkdir()
    examples = []
    for number, each in enumerate(islice(spoken("test", 0), COUNT)):
        name = f"audio/{number:02}.flac"
        write_flac(folder / name, each.pcm)
        examples.append(Utterance(id=f"{number:02}", group=each.voice.name, audio=name, text=each.text))
    return folder, tuple(examples)


@pytest.fixture(scope="module")
def transcriber(
    heard: tuple[Path, tuple[Utterance, ...]], cpu: Device, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    sounds, examples = heard
    home = tmp_path_factory.mktemp("teacher")
    (home / "data").mkdir()
    (home / "data" / "audio").symlink_to(sounds / "audio")
    for split in SPLITS:
        write_examples(home / "data" / f"{split}.jsonl", examples[:3])
    source = Source(
        folder=home,
        model_folder=TEACHER,
        fingerprint="teacher",
        title="teacher",
        license=None,
        counts=dict.fromkeys(SPLITS, 3),
    )
    data = {"source": "spoken-phrases"}
    task = {"type": "automatic-speech-recognition", "data": data, "max_tokens": MAX_TOKENS}
    label = Label(name="teacher", task=Recognize.model_validate(task), macs=1)
    (home / "package").mkdir()
    return open_transcriber(
        export(source, None, label, Export(), home / "package", Progress(quiet=True)), cpu
    )


def tokens_of(examples: Sequence[Utterance], sounds: Path, beams: int) -> list[list[int]]:
    """What transformers writes, without the token that ends it."""
    reading = Reading(folder=TEACHER, max_tokens=MAX_TOKENS, sounds=sounds)
    model: Any = load_model(TEACHER)
    rows: list[list[int]] = []
    with torch.inference_mode():
        for start in range(0, len(examples), BATCH):
            rows += model.generate(
                input_features=collate(reading, examples[start : start + BATCH])[FEATURES],
                num_beams=beams,
                max_new_tokens=MAX_TOKENS - 2,
                return_timestamps=False,
            ).tolist()
    end = model.generation_config.eos_token_id
    return [row[: row.index(end)] if end in row else row for row in rows]


@pytest.mark.parametrize("beams", [1, 4])
def test_fifty_utterances_are_written_as_transformers_writes_them(
    transcriber: Transcriber, heard: tuple[Path, tuple[Utterance, ...]], beams: int
) -> None:
    sounds, examples = heard
    # Where it is silent transformers writes words all the same.
    opened = replace(transcriber, generation=replace(transcriber.generation, no_speech_token_id=None))
    found = [generate(opened, read_audio(sounds / each.audio), beams=beams) for each in examples]
    assert [row[:-1] for row in found] == tokens_of(examples, sounds, beams)
    texts = [opened.codec.decode(row).strip() for row in found]
    right = sum(text == each.text for text, each in zip(texts, examples, strict=True))
    assert right > COUNT // 2, json.dumps(texts)
