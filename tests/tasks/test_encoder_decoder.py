"""Most parts are tested through what is put together of them: the graphs of translation and of speech."""

from typing import Any

import pytest
import torch
from torch import Tensor

from edgelr.tasks.encoder_decoder import STEPS, cross_projections, step_arguments


class Summing:
    """A decoder whose cache holds the tokens so far; it notes what it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int], int]] = []

    def __call__(self, number: int, tokens: Tensor, cache: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        past, cross = cache[: len(cache) // 2], cache[len(cache) // 2 :]
        self.calls.append((number, tokens.flatten().tolist(), past[0].shape[2]))
        assert [each.shape[2:] for each in cross] == [(9, 5)] * 2
        more = tokens.float()[:, None, :, None].expand(-1, 2, -1, 4)
        return (tokens, *(torch.cat([each, more], 2) for each in past))


EMPTY = (torch.zeros(1, 2, 0, 4),) * 2  # heads of another size than those over the source


def cases(widths: tuple[int, ...] = (2, 1, 3)) -> list[tuple[tuple[Tensor, ...], Tensor]]:
    return [((torch.zeros(rows, 2, 9, 5),) * 2, torch.arange(8).repeat(rows, 1)) for rows in widths]


def test_cases_of_a_step_have_the_caches_that_the_steps_before_leave() -> None:
    decoder = Summing()
    taken = step_arguments(cases(), decoder, EMPTY)
    assert [list(each) for each in taken] == [
        ["input_ids", "past_key_0", "past_value_0", "cross_key_0", "cross_value_0"]
    ] * 3
    for rows, before, each in zip((2, 1, 3), STEPS, taken, strict=True):
        assert each["input_ids"].tolist() == [[before]] * rows
        assert each["past_key_0"].shape == (rows, 2, before, 4)
        assert each["past_key_0"][0, 0, :, 0].tolist() == list(range(before))
    assert decoder.calls == [
        *((0, [at] * 2, at) for at in range(STEPS[0])),
        *((2, [at] * 3, at) for at in range(STEPS[2])),
    ]


def test_there_is_a_case_for_every_step() -> None:
    with pytest.raises(ValueError, match="zip"):
        step_arguments(cases((2, 1)), Summing(), EMPTY)


def test_the_first_step_has_nothing_behind_it_and_is_not_the_one_that_is_traced() -> None:
    """A size of 0 would become a constant."""
    assert 0 in STEPS
    assert STEPS[0] > 1


def test_hooks_are_taken_off_when_a_model_fails() -> None:
    class Failing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Linear(2, 2)
            self.decoder = torch.nn.Linear(2, 2)

        def forward(self, **_: Any) -> Any:
            raise RuntimeError("broken")

    graph = Failing()
    with pytest.raises(RuntimeError, match="broken"):
        cross_projections(graph, {})
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in graph.modules())
