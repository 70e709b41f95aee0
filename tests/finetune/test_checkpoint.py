"""A checkpoint comes back as it was saved, or not at all."""

import pickle
from pathlib import Path

import pytest
import torch

from edgelr.finetune.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture
def checkpoint() -> Checkpoint:
    layer = torch.nn.Linear(40, 30)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 40)).sum().backward()
    optimizer.step()
    return Checkpoint(
        step=7,
        model=layer.state_dict(),
        optimizer=optimizer.state_dict(),
        best={"weight": torch.ones(2)},
        best_score=0.25,
        stale=3,
        history=[{"step": 0, "score": 0.25}, {"step": 1, "loss": 1.5}],
    )


def test_a_checkpoint_comes_back_bit_for_bit(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path)
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.best_score, found.stale) == (7, 0.25, 3)
    assert found.history == checkpoint.history
    assert all(torch.equal(found.model[name], tensor) for name, tensor in checkpoint.model.items())
    moments = checkpoint.optimizer["state"][0]
    assert all(torch.equal(found.optimizer["state"][0][name], moments[name]) for name in moments)


def test_a_new_one_takes_the_place_of_the_old_one(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path)
    save_checkpoint(Checkpoint(**{**vars(checkpoint), "step": 8}), tmp_path)
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 8
    assert len(list(tmp_path.iterdir())) == 1


def test_without_one_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.999])
def test_a_truncated_one_is_none(checkpoint: Checkpoint, tmp_path: Path, share: float) -> None:
    save_checkpoint(checkpoint, tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert load_checkpoint(tmp_path) is None


def test_one_flipped_bit_of_a_weight_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    at = content.index(checkpoint.model["weight"].numpy().tobytes())
    content[at + 100] ^= 4
    path.write_bytes(content)
    assert load_checkpoint(tmp_path) is None


@pytest.mark.parametrize("state", [{"step": 1}, {"unknown": 1}, [1, 2]])
def test_one_of_another_layout_is_none(tmp_path: Path, state: object) -> None:
    torch.save(state, tmp_path / "checkpoint.pt")
    assert load_checkpoint(tmp_path) is None


class Payload:
    """What a stranger could put into a pickle."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("save", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state))])
def test_a_payload_is_never_executed(save: object, checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert callable(save)
    marker = tmp_path / "executed"
    save({**vars(checkpoint), "model": Payload(marker)}, tmp_path / "checkpoint.pt")
    assert load_checkpoint(tmp_path) is None
    assert not marker.exists()
