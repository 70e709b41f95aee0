"""What a microphone hears besides the speaker: a room that echoes, noise, another loudness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgelr.load.speech_synthesis import SAMPLE_RATE

if TYPE_CHECKING:
    from numpy.random import Generator

Pcm = NDArray[np.float32]
_LOUDEST = 0.9


def in_a_room(pcm: Pcm, random: Generator, *, reverberation_s: float) -> Pcm:
    """Speech with the echoes of a room: noise that decays, as a first model of one has it.

    Args:
        pcm: ``[samples]``.
        random: Draws the room.
        reverberation_s: Until echoes are 60 dB weaker, above 0.

    Returns:
        ``[samples]``, of the same energy.

    Source:
        Polack, La transmission de l'énergie sonore dans les salles (1988), the exponentially decaying noise.
    """
    times = np.arange(int(reverberation_s * SAMPLE_RATE)) / SAMPLE_RATE
    echoes = random.standard_normal(len(times)) * 10.0 ** (-3.0 * times / reverberation_s)
    direct = random.uniform(1.0, 3.0) * np.sqrt((echoes**2).sum())
    response = np.concatenate([[direct], echoes])
    size = 1 << int(len(pcm) + len(response) - 1).bit_length()
    heard = np.fft.irfft(np.fft.rfft(pcm, size) * np.fft.rfft(response, size), size)[: len(pcm)]
    return (heard * (rms(pcm) / max(rms(heard), 1e-9))).astype(np.float32)


def colored_noise(samples: int, random: Generator, *, slope: float, humps: int) -> Pcm:
    """Noise with a falling spectrum and a few humps, as of fans, traffic and rooms.

    Args:
        samples: How many.
        random: Draws it.
        slope: Power falls with frequency to this power: 0 is white, 1 pink, 2 brown.
        humps: Frequencies around which there is more.

    Returns:
        ``[samples]``, of root mean square 1.
    """
    size = 1 << max(int(samples - 1).bit_length(), 9)
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    shape = np.maximum(frequencies, 50.0) ** (-slope / 2)
    for _ in range(humps):
        center, width = random.uniform(100, 6000), random.uniform(50, 800)
        shape *= 1 + 5 * random.random() * np.exp(-(((frequencies - center) / width) ** 2))
    phases = random.standard_normal(len(shape)) + 1j * random.standard_normal(len(shape))
    noise = np.fft.irfft(shape * phases, size)[:samples]
    return (noise / max(rms(noise), 1e-12)).astype(np.float32)


def mixed(pcm: Pcm, noise: Pcm, *, decibels: float, loudness: float) -> Pcm:
    """Speech in noise.

    Args:
        pcm: Speech ``[samples]``.
        noise: ``[samples]``, of root mean square 1.
        decibels: Of speech over noise.
        loudness: Largest sample of the result, at most 0.9.
    """
    heard = pcm + noise * (rms(pcm) * 10 ** (-decibels / 20))
    peak = max(float(np.abs(heard).max()), 1e-9)
    return (heard * (min(loudness, _LOUDEST) / peak)).astype(np.float32)


def rms(pcm: NDArray[np.floating]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(pcm, dtype=np.float64))))
