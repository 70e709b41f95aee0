from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.statistics import STATISTICS
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress
from edgelr.survey.sites import find_sites
from edgelr.survey.subject import Subject, check_weights, gather_to_file


class Block(nn.Module):
    """Two layers read ``x``; a convolution and an embedding stand for the other kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 8)
        self.q, self.k, self.up, self.down = (
            nn.Linear(8, 8),
            nn.Linear(8, 8),
            nn.Linear(8, 16),
            nn.Linear(16, 8),
        )
        self.conv = nn.Conv1d(8, 8, 3, padding=1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        x = x + self.q(x) * self.k(x)
        x = x + self.down(torch.tanh(self.up(x)))
        return x + self.conv(x.transpose(1, 2)).transpose(1, 2)


@pytest.fixture
def subject() -> Subject:
    torch.manual_seed(0)
    return Subject(
        model=Block().eval().requires_grad_(False),
        batches=[{"ids": torch.randint(9, (2, 5))} for _ in range(3)],
        few=[],
        run=lambda model, batch: model(**batch),
        distance=lambda output, reference: (output - reference).flatten(1).square().sum(1),
        probe=lambda output: (output * torch.randn_like(output)).sum(),
    )


def gathered(subject: Subject, folder: Path, limit: float | None):
    folder.mkdir()
    settings = Compress.model_validate({"keep": {"parameters": 0.5}, "vocabulary": True})
    found = find_sites(subject.model, ("*",), (), vocabulary=True)
    sums = gather_to_file(subject, found, settings, folder, Progress(quiet=True), limit)
    with np.load(folder / STATISTICS) as archive:
        return sums, {name: archive[name] for name in archive.files}


@pytest.mark.parametrize("limit", [1, 4000, 6000])
def test_statistics_do_not_depend_on_the_number_of_passes(subject, tmp_path, limit):
    runs = []
    subject.model.register_forward_hook(lambda *_: runs.append(1))
    sums, at_once = gathered(subject, tmp_path / "once", None)
    assert len(runs) == len(subject.batches)
    again, in_passes = gathered(subject, tmp_path / "passes", limit)
    assert len(runs) > 2 * len(subject.batches)
    assert at_once.keys() == in_passes.keys()
    for name, array in at_once.items():
        np.testing.assert_allclose(in_passes[name], array, rtol=1e-12, err_msg=name)
    assert (sums.inputs, sums.rows, sums.tokens) == (again.inputs, again.rows, again.tokens)
    assert sums.inputs["k"] == "q"


def test_equal_statistics_are_equal_bytes(subject, tmp_path):
    for name in ("one", "two"):
        gathered(subject, tmp_path / name, 4000)
    one, two = ((tmp_path / name / STATISTICS).read_bytes() for name in ("one", "two"))
    assert one == two


def test_weights_on_the_meta_device_are_named():
    check_weights(Block())
    with torch.device("meta"):
        model = Block()
    with pytest.raises(UnsupportedModelError, match=r"'table\.weight' is on the meta device") as error:
        check_weights(model)
    assert error.value.exit_code == 4
