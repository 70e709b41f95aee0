import numpy as np
import pytest

from edgelr.load.speech_rooms import colored_noise, in_a_room, mixed, rms
from edgelr.load.speech_synthesis import SAMPLE_RATE


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def click(seconds: float = 1.0) -> np.ndarray:
    pcm = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
    pcm[100] = 1.0
    return pcm


def tone(samples: int = SAMPLE_RATE) -> np.ndarray:
    return np.sin(2 * np.pi * 300 * np.arange(samples) / SAMPLE_RATE).astype(np.float32)


def share_below(pcm: np.ndarray, hertz: float) -> float:
    power = np.abs(np.fft.rfft(pcm)) ** 2
    return float(power[np.fft.rfftfreq(len(pcm), 1 / SAMPLE_RATE) < hertz].sum() / power.sum())


# --- rooms --------------------------------------------------------------------------------------------


def test_a_room_keeps_length_and_energy():
    pcm = tone()
    heard = in_a_room(pcm, draw(), reverberation_s=0.3)
    assert (heard.shape, heard.dtype) == (pcm.shape, np.float32)
    assert rms(heard) == pytest.approx(rms(pcm), rel=1e-4)


def test_nothing_is_heard_before_it_is_said():
    """A circular convolution would put the end of the echoes before the beginning."""
    heard = in_a_room(click(), draw(), reverberation_s=0.5)
    assert np.abs(heard[:100]).max() < 1e-6
    assert np.abs(heard).argmax() == 100, "the direct sound is the loudest"


@pytest.mark.parametrize("reverberation_s", [0.1, 0.3])
def test_echoes_are_sixty_decibels_weaker_after_the_reverberation(reverberation_s):
    heard = in_a_room(click(), draw(), reverberation_s=reverberation_s)
    length = int(reverberation_s * SAMPLE_RATE)
    early, late = heard[102:262], heard[102 + length // 2 : 262 + length // 2]
    assert 20 * np.log10(rms(early) / rms(late)) == pytest.approx(30, abs=3)
    assert np.abs(heard[102 + length :]).max() < 1e-6


def test_silence_in_a_room_is_silence():
    assert not in_a_room(np.zeros(1000, np.float32), draw(), reverberation_s=0.2).any()


def test_the_same_room_is_drawn_again():
    rooms = [in_a_room(tone(), draw(seed), reverberation_s=0.2) for seed in (1, 1, 2)]
    assert np.array_equal(rooms[0], rooms[1])
    assert not np.array_equal(rooms[0], rooms[2])


# --- noise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 100, 511, 512, 513, SAMPLE_RATE])
def test_noise_has_its_length_and_a_loudness_of_one(samples):
    noise = colored_noise(samples, draw(), slope=1, humps=2)
    assert (noise.shape, noise.dtype) == ((samples,), np.float32)
    assert rms(noise) == pytest.approx(1, rel=1e-5)


def test_a_steeper_slope_is_a_deeper_noise():
    white, pink, brown = (colored_noise(2**16, draw(), slope=slope, humps=0) for slope in (0, 1, 2))
    assert share_below(white, 1000) == pytest.approx(1 / 8, abs=0.02)
    assert share_below(white, 1000) < share_below(pink, 1000) < share_below(brown, 1000)


def test_humps_make_some_frequencies_louder():
    flat, humped = (colored_noise(2**16, draw(3), slope=0, humps=humps) for humps in (0, 3))
    bands = [np.abs(np.fft.rfft(each))[:-1].reshape(64, -1).mean(axis=1) for each in (flat, humped)]
    assert np.ptp(bands[1]) > 2 * np.ptp(bands[0])


def test_the_same_noise_is_drawn_again():
    noises = [colored_noise(1000, draw(seed), slope=1, humps=2) for seed in (1, 1, 2)]
    assert np.array_equal(noises[0], noises[1])
    assert not np.array_equal(noises[0], noises[2])


# --- mixtures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decibels", [0, 10, 40])
def test_speech_is_so_much_louder_than_the_noise(decibels):
    pcm, noise = tone(), colored_noise(SAMPLE_RATE, draw(), slope=0, humps=0)
    heard = mixed(pcm, noise, decibels=decibels, loudness=0.5)
    # What is left without the tone is the noise.
    said = pcm * float((heard @ pcm) / (pcm @ pcm))
    assert 20 * np.log10(rms(said) / rms(heard - said)) == pytest.approx(decibels, abs=0.3)


@pytest.mark.parametrize(("loudness", "peak"), [(0.1, 0.1), (0.9, 0.9), (5.0, 0.9)])
def test_nothing_clips(loudness, peak):
    noise = colored_noise(SAMPLE_RATE, draw(), slope=1, humps=0)
    heard = mixed(tone(), noise, decibels=10, loudness=loudness)
    assert heard.dtype == np.float32
    assert np.abs(heard).max() == pytest.approx(peak, rel=1e-5)


def test_silence_stays_silent():
    heard = mixed(np.zeros(100, np.float32), np.ones(100, np.float32), decibels=10, loudness=0.5)
    assert not heard.any()


def test_the_input_is_not_changed():
    pcm, noise = tone(), colored_noise(SAMPLE_RATE, draw(), slope=1, humps=0)
    kept = pcm.copy(), noise.copy()
    mixed(in_a_room(pcm, draw(), reverberation_s=0.2), noise, decibels=10, loudness=0.5)
    assert np.array_equal(pcm, kept[0])
    assert np.array_equal(noise, kept[1])


def test_root_mean_square():
    assert rms(np.array([3.0, -3.0, 3.0])) == 3
    assert rms(np.full(10, 200, np.int16)) == 200, "squares of 16 bits would overflow"
