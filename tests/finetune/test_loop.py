from contextlib import contextmanager

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from edgelr.errors import DivergedError
from edgelr.finetune.loop import freeze_embeddings, tune
from edgelr.finetune.rounding import straight_through
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune

SETTINGS = Finetune(steps=12, learning_rate=0.05, validate_every=3, checkpoint_every=2, patience=9)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))


def loss(net: nn.Module, step: int) -> torch.Tensor:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    return (net(x) - x.sum(1, keepdim=True)).square().mean()


def score(net: nn.Module) -> float:
    with torch.no_grad():
        return -float(loss(net, 999))


def run(net, scratch, loss_of_step=loss, settings=SETTINGS):
    scratch.mkdir(exist_ok=True)
    return tune(net, loss_of_step, score, settings, scratch, Accelerator(cpu=True), Progress(quiet=True))


def test_the_score_rises_and_the_best_state_is_kept(tmp_path):
    net = model()
    history = run(net, tmp_path / "s")
    scores = [row["score"] for row in history if "score" in row]
    assert max(scores) > scores[0]
    assert score(net) == pytest.approx(max(scores))


def test_interrupted_and_resumed_ends_with_the_same_weights(tmp_path):
    whole, broken = model(), model()
    run(whole, tmp_path / "a")

    def interrupted(net: nn.Module, step: int) -> torch.Tensor:
        if step == 7:
            raise KeyboardInterrupt
        return loss(net, step)

    with pytest.raises(KeyboardInterrupt):
        run(broken, tmp_path / "b", interrupted)
    again = model()
    run(again, tmp_path / "b")
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_patience_stops_early(tmp_path):
    settings = Finetune(steps=50, learning_rate=1e-9, validate_every=1, patience=2, warmup_share=0)
    history = run(model(), tmp_path / "s", lambda net, step: -loss(net, step), settings)
    assert max(row["step"] for row in history) < 50


def test_a_loss_that_is_not_finite_is_named(tmp_path):
    with pytest.raises(DivergedError, match="the loss is nan at step 1 of 12"):
        run(model(), tmp_path / "s", lambda net, step: loss(net, step) * float("nan"))


def test_embeddings_are_frozen():
    net = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2))
    freeze_embeddings(net)
    assert not net[0].weight.requires_grad
    assert net[1].weight.requires_grad


# --- quantization simulated in the last part -------------------------------------------------------------


def rounding(seen: list[str]):
    """Counts when it begins and ends; meanwhile the model computes with weights of one decimal."""

    @contextmanager
    def simulate(net: nn.Module):
        seen.append("begin")
        first = net[0]
        first.forward = lambda x: nn.functional.linear(
            x, straight_through(first.weight, first.weight.detach().mul(10).round() / 10), first.bias
        )
        yield
        del first.forward
        seen.append("end")

    return simulate


def run_rounded(net, scratch, loss_of_step=loss, settings=SETTINGS):
    scratch.mkdir(exist_ok=True)
    seen: list[str] = []
    quiet = Progress(quiet=True)
    simulate = rounding(seen)
    history = tune(
        net, loss_of_step, score, settings, scratch, Accelerator(cpu=True), quiet, rounding=simulate
    )
    return history, seen


def test_the_last_third_is_rounded_and_the_best_is_the_best_rounded(tmp_path):
    net, quantized = model(), []

    def noted(net: nn.Module, step: int) -> torch.Tensor:
        quantized.append("forward" in vars(net[0]))
        return loss(net, step)

    history, seen = run_rounded(net, tmp_path / "s", noted)
    assert seen == ["begin", "end"]
    assert quantized == [False] * 8 + [True] * 4
    assert "forward" not in vars(net[0])
    begun = max(at for at, row in enumerate(history) if row["step"] == 8)
    scores = [row["score"] for row in history[begun:] if "score" in row]
    with rounding([])(net):
        assert score(net) == pytest.approx(max(scores))


@pytest.mark.parametrize("step", [6, 9])
def test_it_resumes_in_either_part_to_the_same_weights(tmp_path, step):
    whole, broken, again = model(), model(), model()
    run_rounded(whole, tmp_path / "a")

    def interrupted(net: nn.Module, at: int) -> torch.Tensor:
        if at == step:
            raise KeyboardInterrupt
        return loss(net, at)

    with pytest.raises(KeyboardInterrupt):
        run_rounded(broken, tmp_path / "b", interrupted)
    run_rounded(again, tmp_path / "b")
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_patience_in_the_first_part_does_not_skip_the_rounded_one(tmp_path):
    settings = Finetune(steps=30, learning_rate=1e-9, validate_every=1, patience=2, warmup_share=0)
    history, seen = run_rounded(model(), tmp_path / "s", lambda net, step: -loss(net, step), settings)
    assert seen == ["begin", "end"]
    steps = [int(row["step"]) for row in history if "loss" in row]
    assert set(range(4, 20)) & set(steps) == set()
    assert max(steps) > 20
