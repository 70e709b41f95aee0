"""Encoder-decoders in plain operators, by the stages: the same tokens as with caches that grow."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import export_translator
from speech_fixtures import export_speech

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.prepared import missing
from edgelr.device.schema import Device
from edgelr.examples import Translation, Utterance
from edgelr.load.cldr import collect
from edgelr.load.sounds import speak_phrases
from edgelr.progress import Progress
from edgelr.quantize.calibration import data_of_package
from edgelr.quantize.stage import quantize
from edgelr.recipe.schema import Quantize
from edgelr.runtime.audio import read_audio
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.transcribe import open_transcriber, text_of, transcribe
from edgelr.runtime.translate import open_translator, translate
from edgelr.validate.across import compare_across

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).parents[2] / "recipes"
QUIET = Progress(quiet=True)


@pytest.mark.parametrize("beams", [1, 3])
def test_translations_are_the_same(
    dense_translator: Package, plain_translator: Package, cpu: Device, beams: int
) -> None:
    sources = [each.source for each in folder_examples(dense_translator.folder, Translation)]
    expected, found = (
        list(translate(open_translator(package, cpu), sources, beams=beams))
        for package in (dense_translator, plain_translator)
    )
    assert len(set(expected)) > 6, "or little was compared"
    assert found == expected


@pytest.mark.parametrize("beams", [1, 3])
def test_transcripts_are_the_same(
    dense_speech: Package, plain_speech: Package, cpu: Device, beams: int
) -> None:
    examples = folder_examples(dense_speech.folder, Utterance)
    sounds = [read_audio(dense_speech.folder / each.audio) for each in examples]
    expected, found = (
        [text_of(transcribe(open_transcriber(package, cpu), [sound], beams=beams)) for sound in sounds]
        for package in (dense_speech, plain_speech)
    )
    assert len(set(expected)) > 6, "or little was compared"
    assert found == expected


@pytest.fixture
def fixed(cpu: Device) -> Device:
    """A CPU that takes fixed sizes only, and no fp32 but of features."""
    return replace(cpu, name="fixed", shapes="fixed", accepts=("a16w8",))


def test_at_fixed_sizes_a_text_is_cut_like_any_other(
    dense_translator: Package, plain_translator: Package, cpu: Device, fixed: Device
) -> None:
    texts = [each.source for each in folder_examples(dense_translator.folder, Translation)]
    texts = ["", *texts[:3], " ".join(texts[:12])]
    notes: dict[str, list[str]] = {"any": [], "fixed": []}
    expected = list(translate(open_translator(dense_translator, cpu), texts, note=notes["any"].append))
    found = list(translate(open_translator(plain_translator, fixed), texts, note=notes["fixed"].append))
    assert found == expected
    assert notes["fixed"] == notes["any"]
    assert notes["fixed"][0].startswith("text 5 has ")


def test_at_fixed_sizes_a_sound_has_as_many_windows_as_any_other(
    dense_speech: Package, plain_speech: Package, cpu: Device, fixed: Device
) -> None:
    examples = folder_examples(dense_speech.folder, Utterance)[:4]
    sounds = [read_audio(dense_speech.folder / each.audio) for each in examples]
    sounds = [np.zeros(100, np.float32), sounds[0], np.concatenate(sounds * 2)]
    expected, found = (
        [list(transcribe(open_transcriber(package, device), [sound])) for sound in sounds]
        for package, device in ((dense_speech, cpu), (plain_speech, fixed))
    )
    assert found == expected
    assert len(found[-1]) > 2, "windows"


@pytest.fixture(scope="module", params=["translation", "speech"])
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A recipe's dense model in plain operators and 16 bits.

    It is a trained one: of random weights two tokens are so often as likely as each other that what a device
    rounds otherwise changes a token of most texts.
    """
    settings = Quantize(scheme="a16w8", min_cosine=0.9)  # type: ignore[call-arg]
    home = tmp_path_factory.mktemp("trained")
    if request.param == "translation":
        pairs = collect(("en", "de"), 400, QUIET)[::25]
        package = export_translator(home, RECIPES / "cldr-en-de" / "teacher", pairs, "plain")
    else:
        pytest.importorskip("espeakng_loader")
        spoken = speak_phrases({"train": 1, "calibration": 1, "validation": 1, "test": 16}, 0, home, QUIET)
        teacher = RECIPES / "spoken-commands" / "teacher"
        limits = {"max_tokens": 48, "window_s": 6}
        package = export_speech(teacher, home, spoken["test"], home / "home", limits, "plain")
    folder = tmp_path_factory.mktemp("wide")
    return quantize(package, settings, folder, QUIET, data=data_of_package(package))


@pytest.mark.parametrize("name", ["cpu-4t", "qnn-htp-emulator", "arm64-cortex-a76", "web-wasm"])
def test_every_device_agrees_and_writes_the_same_texts(wide: Package, name: str) -> None:
    device = load_devices()[name]
    if (lacking := missing(device)) is not None:
        pytest.skip(lacking.command)
    # Of 8 texts one may differ, else this is an error.
    note = compare_across(wide, device, (8, 16, 32))
    assert note is not None
    assert ", the same text for " in note
