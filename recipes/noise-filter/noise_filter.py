"""Takes noise out of a voice: a mask for every frame of a spectrogram."""

import numpy as np
import torch
from torch import nn

dynamic_axes = {"noisy": {2: "frames"}}  # of an input of forward(), besides the batch


class NoiseFilter(nn.Module):
    def __init__(self):
        super().__init__()
        self.near, self.over_time = nn.Conv1d(65, 128, 3, padding=1), nn.GRU(128, 64, batch_first=True)
        self.mask = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 65), nn.Sigmoid())

    def forward(self, noisy):
        frames, _ = self.over_time(self.near(noisy).relu().transpose(1, 2))
        return {"clean": noisy * self.mask(frames).transpose(1, 2)}


def batches(split):  # without an end: the recipe says how many rows are taken
    random = torch.Generator().manual_seed(["train", "calibration", "validation", "test"].index(split))
    while True:
        pitch = 100 + 300 * torch.rand(16, 1, 1, generator=random)
        harmonics = torch.arange(1, 6)[:, None] * torch.arange(64 * 39) / 8000
        voice = torch.sin(2 * torch.pi * pitch * harmonics).mean(1)
        noisy = voice + 0.3 * torch.randn(voice.shape, generator=random)
        window = torch.hann_window(128)
        both = [torch.stft(each, 128, window=window, return_complex=True).abs() for each in (noisy, voice)]
        yield dict(zip(("noisy", "clean"), both))


def loss(module, batch):
    return nn.functional.mse_loss(module(batch["noisy"])["clean"], batch["clean"])


def train(module):
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _, batch in zip(range(200), batches("train")):
        optimizer.zero_grad()
        loss(module, batch).backward()
        optimizer.step()


def metric(outputs, batch):  # decibels of the voice over what is left of the noise
    left = outputs["clean"] - batch["clean"]
    return 10 * np.log10(np.square(batch["clean"]).sum() / np.square(left).sum())
