"""Log-mel spectrogram as a torch module: what Whisper reads, in operators that every runtime has."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_FLOOR = 1e-10  # of a mel band's power
_RANGE = 8.0  # powers of ten below the loudest that count


class LogMel(nn.Module):
    """PCM to the log-mel spectrogram of Whisper's feature extractor.

    The short-time Fourier transform is a convolution with windowed cosines and sines: it is a matrix
    multiplication in any runtime, while ONNX's ``STFT`` is missing in most.

    Args:
        filters: Mel filters ``[frequencies, mels]``, frequencies ``frame // 2 + 1``.
        frame: Samples of a frame.
        hop: Samples from one frame to the next.
    """

    kernels: Tensor
    filters: Tensor

    def __init__(self, filters: Tensor, *, frame: int, hop: int) -> None:
        super().__init__()
        self.frame, self.hop = frame, hop
        self.register_buffer("kernels", _fourier(frame))
        self.register_buffer("filters", filters.T.float().contiguous())

    def forward(self, pcm: Tensor) -> Tensor:
        """Features ``[batch, mels, samples // hop]`` of ``pcm [batch, samples]``, 16 kHz, -1 to 1."""
        half = self.frame // 2
        # One frame more than samples // hop would end the signal; Whisper drops it.
        padded = nn.functional.pad(pcm.unsqueeze(1), (half, half), mode="reflect")[..., : -self.hop]
        waves = nn.functional.conv1d(padded, self.kernels, stride=self.hop)
        real, imaginary = waves.chunk(2, dim=1)
        power = real * real + imaginary * imaginary
        decades = (self.filters @ power).clamp(min=_FLOOR).log10()
        loudest = decades.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(decades, loudest - _RANGE) + 4.0) / 4.0


def log_mel_of(extractor: Any) -> LogMel:  # noqa: ANN401 - transformers is not typed
    """The module that computes what a ``WhisperFeatureExtractor`` does.

    Args:
        extractor: Of transformers.
    """
    filters = torch.from_numpy(np.asarray(extractor.mel_filters))
    return LogMel(filters, frame=extractor.n_fft, hop=extractor.hop_length)


def _fourier(frame: int) -> Tensor:
    """Cosines, then sines, of every frequency under a Hann window: ``[2 * (frame // 2 + 1), 1, frame]``."""
    times = torch.arange(frame, dtype=torch.float64)
    # As a whole number of steps, reduced before it is an angle: the angle is exact.
    steps = torch.outer(torch.arange(frame // 2 + 1, dtype=torch.float64), times) % frame
    angles = steps * (2 * torch.pi / frame)
    window = torch.hann_window(frame, periodic=True, dtype=torch.float64)
    return (torch.cat([angles.cos(), angles.sin()]) * window).unsqueeze(1).float()
