import ctypes
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")
pytest.importorskip("soxr")

from edgelr.errors import DataError, MissingRequirementError
from edgelr.load import speech_synthesis
from edgelr.load.speech_synthesis import SAMPLE_RATE, Voice, speak

ROOT = Path(__file__).parent.parent.parent
VOICE = Voice(name="en-us")


def pitch_of(pcm: np.ndarray) -> float:
    """Hertz of the period, from 50 to 250, after which the low part of the sound is most like itself."""
    power = np.abs(np.fft.rfft(pcm, 2 * len(pcm))) ** 2
    power[np.fft.rfftfreq(2 * len(pcm), 1 / SAMPLE_RATE) > 250] = 0  # above are the formants
    likeness = np.fft.irfft(power)
    shortest, longest = SAMPLE_RATE // 250, SAMPLE_RATE // 50
    return SAMPLE_RATE / (shortest + int(likeness[shortest:longest].argmax()))


def test_a_text_is_sound():
    pcm = speak("turn on the lights", VOICE)
    assert (pcm.dtype, pcm.ndim) == (np.float32, 1)
    assert 0.8 < len(pcm) / SAMPLE_RATE < 2.5
    assert 0.1 < np.abs(pcm).max() <= 1.1, "resampling may overshoot"
    assert np.sqrt(np.mean(pcm**2)) > 0.02


def test_a_longer_text_takes_longer():
    lengths = [len(speak(text, VOICE)) for text in ("one", "one two three", "one two three four five six")]
    assert lengths == sorted(lengths)
    assert lengths[2] > 2 * lengths[0]


def test_one_text_leaves_nothing_in_the_next():
    long, short = speak("set a timer for twenty minutes", VOICE), speak("one", VOICE)
    assert len(short) < len(long) / 2


def test_speed_and_pitch_are_heard():
    slow, fast = (
        speak("set a timer for ten minutes", Voice(name="en-us", words_per_minute=words))
        for words in (120, 240)
    )
    assert len(slow) > 1.5 * len(fast)
    low, high = (speak("ah ah ah", Voice(name="en-us", pitch=pitch, range=0)) for pitch in (10, 90))
    assert pitch_of(high) > 1.3 * pitch_of(low)


def test_a_text_is_the_same_samples_whatever_was_spoken_before():
    before = speak("call emma on monday", VOICE)
    speak("call emma", Voice(name="en-gb-scotland+f3", words_per_minute=300, pitch=99, range=99))
    assert np.array_equal(speak("call emma on monday", VOICE), before)


@pytest.mark.parametrize("name", ["en-us+caleb", "en-us+Reed"])
def test_breath_is_the_same_samples_whoever_drew_numbers_before(name):
    """It is of the C library's random numbers."""
    before = speak("call emma", Voice(name=name))
    assert np.array_equal(speak("call emma", Voice(name=name)), before)
    ctypes.CDLL(None).rand()
    assert np.array_equal(speak("call emma", Voice(name=name)), before)


def test_a_text_is_the_same_samples_in_another_process():
    code = (
        "import hashlib; from edgelr.load.speech_synthesis import Voice, speak; "
        "print([hashlib.sha256(speak(text, Voice(name='en-us+f2')).tobytes()).hexdigest() for text in 'abc'])"
    )
    command = [sys.executable, "-c", code]
    said = set()
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        said.add(done.stdout)
        time.sleep(1)  # whose seconds would be its seed
    assert len(said) == 1


def test_a_voice_that_does_not_exist_is_named():
    with pytest.raises(DataError, match="no voice 'xx-nobody'"):
        speak("hello", Voice(name="xx-nobody"))


def test_a_text_of_which_nothing_is_heard_is_named(monkeypatch):
    calls = ("SetSynthCallback", "SetVoiceByName", "SetParameter", "Synth", "Synchronize")
    silent = type("Silent", (), {f"espeak_{name}": staticmethod(lambda *_: 0) for name in calls})
    monkeypatch.setattr(speech_synthesis, "_synthesizer", lambda: nullcontext((silent, 22_050)))
    with pytest.raises(DataError, match="says nothing for 'hm'"):
        speak("hm", VOICE)


@pytest.mark.parametrize(("missing", "name"), [("espeakng_loader", "espeak-ng"), ("soxr", "soxr")])
def test_what_is_not_installed_is_named(monkeypatch, missing, name):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingRequirementError, match=rf"{name} is not installed\n.*edgelr\[speech\]"):
        speak("hello", VOICE)


def test_a_synthesizer_without_its_data_is_named(monkeypatch):
    real = ctypes.CDLL

    def without_data(path):
        library = real(path)
        library.espeak_Initialize = lambda *_: -1
        return library

    monkeypatch.setattr(ctypes, "CDLL", without_data)
    with pytest.raises(MissingRequirementError, match="its data is not found"):
        speak("hello", VOICE)
