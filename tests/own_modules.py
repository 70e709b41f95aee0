"""A file as a user writes it: a small net with its data, and parts of it to be changed."""

from pathlib import Path

TABULAR = """
import torch
from torch import nn

{more}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, {inputs}):
        hidden = torch.relu(self.first({read}))
        return {result}


def build():
    return Net()


def batches(split):
    random = torch.Generator().manual_seed(len(split))
    for _ in range(8):
        x = torch.randn(16, 6, generator=random)
        yield {{"x": x, "label": (x.sum(1) > 0).long() + (x[:, 0] > 1).long()}}


def loss(module, batch):
    return nn.functional.cross_entropy(module(batch["x"]), batch["label"])


def metric(outputs, batch):
    return float((next(iter(outputs.values())).argmax(1) == batch["label"]).mean())
"""


def write_module(
    path: Path,
    *,
    inputs: str = "x",
    read: str = "x",
    result: str = "self.last(hidden)",
    more: str = "",
    change: tuple[str, str] = ("", ""),
) -> Path:
    text = TABULAR.format(inputs=inputs, read=read, result=result, more=more)
    assert change[0] in text
    path.write_text(text.replace(*change) if change[0] else text)
    return path
