import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from own_modules import write_module

from edgelr.artifacts import Split
from edgelr.errors import UnsupportedModelError, UsageError
from edgelr.examples import Call
from edgelr.load.own_module import load_own
from edgelr.lowrank.layers import LowRankLinear
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.recipe.custom import Custom
from edgelr.recipe.finetune import Finetune
from edgelr.runtime.calls import read_outputs
from edgelr.tasks import custom
from edgelr.tasks.task import Reading

QUIET = Progress(quiet=True)
COUNTS: dict[Split, int] = {"train": 40, "calibration": 20, "validation": 10, "test": 6}
Loaded = tuple[Reading, dict[Split, tuple[Call, ...]]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("own")
    write_module(
        folder / "net.py",
        result="{'logits': self.last(hidden), 'hidden': hidden}",
        change=('cross_entropy(module(batch["x"]),', 'cross_entropy(module(batch["x"])["logits"],'),
    )
    settings = Custom.model_validate({"type": "custom", "module": "net.py:build"})
    splits = load_own(settings, COUNTS, 0, folder, folder)
    return Reading(folder=folder / "model", max_tokens=0, sounds=folder / "data"), splits


def test_the_model_is_the_one_that_was_kept(loaded: Loaded) -> None:
    reading, splits = loaded
    one, other = (custom.load_model(reading.folder) for _ in range(2))
    (batch,) = custom.example_batches(reading, splits["test"], 32)
    assert set(batch) == {"x"}, "what it reads, and no label"
    assert torch.equal(custom.run(one, batch).result, custom.run(other, batch).result)
    assert custom.run(one, batch).result.shape == (6, 3 + 32)
    assert not one.training


def test_a_file_that_builds_another_module_by_now_is_named(loaded: Loaded, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(loaded[0].folder, tmp_path / "model"))
    write_module(tmp_path / "net.py", change=("32), nn.Linear(32", "16), nn.Linear(16"))
    document = json.loads((folder / "own.json").read_text())
    (folder / "own.json").write_text(json.dumps({**document, "module": f"{tmp_path / 'net.py'}:build"}))
    with pytest.raises(UnsupportedModelError, match="builds another module now"):
        custom.load_model(folder)


def test_distance_and_probe_belong_together() -> None:
    """Squared gradients of the probe average to the curvature of the distance, 2 / |reference|²."""
    torch.manual_seed(0)
    reference = torch.randn(3, 5)
    assert custom.distance(reference, reference).tolist() == [0, 0, 0]
    assert custom.distance(0 * reference, reference).tolist() == pytest.approx([1, 1, 1])
    squares = torch.zeros(3, 5)
    for _ in range(4000):
        result = reference.clone().requires_grad_()
        custom.probe(result).backward()
        squares += result.grad**2
    wanted = (2 / reference.square().sum(1, keepdim=True)).expand(3, 5)
    torch.testing.assert_close(squares / 4000, wanted, rtol=0.15, atol=0)


def test_losses_are_the_distance_and_the_files_own(loaded: Loaded, tmp_path: Path) -> None:
    reading, splits = loaded
    teacher, student = (custom.load_model(reading.folder) for _ in range(2))

    def loss_of(**settings: object) -> float:
        chosen = Finetune.model_validate({"steps": 1, "batch": 8, **settings})
        loss = custom.losses(teacher, reading, splits["train"], chosen, 0, tmp_path, QUIET)
        return float(loss(student, 3).detach())

    assert loss_of() == 0
    own = loss_of(task_loss=1.0)
    assert own > 0.1
    with torch.no_grad():
        student.last.weight.mul_(1.5)
    assert loss_of() > 0
    assert loss_of(distill={"outputs": 0.0}) == 0
    assert loss_of(task_loss=1.0, distill={"outputs": 0.0}) != own


def test_a_task_loss_needs_the_function(loaded: Loaded, tmp_path: Path) -> None:
    reading, splits = loaded
    folder = Path(shutil.copytree(reading.folder, tmp_path / "model"))
    path = write_module(tmp_path / "net.py", change=("def loss", "def no_loss"))
    document = json.loads((folder / "own.json").read_text())
    (folder / "own.json").write_text(json.dumps({**document, "module": f"{path}:build"}))
    bare = Reading(folder=folder, max_tokens=0, sounds=reading.sounds)
    settings = Finetune.model_validate({"steps": 1, "task_loss": 1.0})
    with pytest.raises(UsageError, match="has no function 'loss'"):
        custom.losses(torch.nn.Linear(1, 1), bare, splits["train"], settings, 0, tmp_path, QUIET)


def test_metrics_are_those_of_packages(loaded: Loaded, tmp_path: Path) -> None:
    reading, splits = loaded
    dense, other = (custom.load_model(reading.folder) for _ in range(2))
    score = custom.scorer(dense, reading, splits["validation"])
    found = score(dense)
    assert tuple(found)[:3] == METRICS["custom"]
    assert found["cosine"] == pytest.approx(1)
    assert 0 <= found["metric"] <= 1
    with torch.no_grad():
        other.last.weight.normal_()
    assert score(other)["cosine"] < 0.99
    assert custom.validator(dense, reading, splits["validation"])(dense) == found["metric"]


def test_a_package_has_its_examples_and_the_dense_outputs(loaded: Loaded, tmp_path: Path) -> None:
    reading, splits = loaded
    dense = custom.load_model(reading.folder)
    assert custom.furnish(tmp_path, dense, dense, reading, splits["test"], QUIET) == {}
    assert sorted(path.name for path in (tmp_path / "arrays").iterdir()) == ["outputs.npz", "test.npz"]
    outputs, metric = read_outputs(tmp_path, 6)
    (batch,) = custom.example_batches(reading, splits["test"], 32)
    with torch.inference_mode():
        logits = dense(**batch)["logits"].numpy()
    np.testing.assert_allclose(np.concatenate([each["logits"] for each in outputs]), logits, atol=1e-6)
    assert metric is not None and metric.shape == (6,)


def test_it_has_no_tokens(loaded: Loaded) -> None:
    assert custom.seen_tokens(loaded[0], loaded[1]["test"]) == set()
    with pytest.raises(UnsupportedModelError, match="has no tokens"):
        custom.token_table(LowRankLinear(2, 2, 1, bias=False))
    custom.check_reach(LowRankLinear(2, 2, 1, bias=False), loaded[0])
    assert custom.package_settings(LowRankLinear(2, 2, 1, bias=False), loaded[0]) == {}


def test_the_graph_is_called_as_the_module(loaded: Loaded) -> None:
    reading, splits = loaded
    (spec,) = custom.graphs(custom.load_model(reading.folder), reading, splits["test"])
    assert list(spec.cases[0]) == ["x"]
    assert spec.outputs == ("logits", "hidden")
