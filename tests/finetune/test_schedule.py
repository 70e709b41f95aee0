"""The learning rate over the steps."""

import pytest

from edgelr.finetune.schedule import learning_rate
from edgelr.recipe.finetune import Finetune


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    settings = Finetune(steps=100, warmup_share=0.1, learning_rate=0.5)  # type: ignore[call-arg]
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(0.5), "the peak is reached once, at the end of the warm-up"
    assert rates[55] == pytest.approx(0.25), "half way down"
    assert 0 < rates[99] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(("steps", "share"), [(1, 0.0), (1, 0.9), (2, 0.99), (3, 0.0)])
def test_the_rate_is_never_zero_or_above_its_peak(steps: int, share: float) -> None:
    settings = Finetune(steps=steps, warmup_share=share, learning_rate=0.1)  # type: ignore[call-arg]
    assert all(0 < learning_rate(step, settings) <= 0.1 for step in range(steps))
