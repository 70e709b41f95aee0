"""Precision, and the order of sums."""

import pytest
import torch

from edgelr.tasks.arithmetic import same_sums, uses_bf16


@pytest.mark.parametrize(("precision", "expected"), [("fp32", False), ("bf16", True)])
def test_the_recipe_decides_the_precision(precision, expected):
    assert uses_bf16(precision) is expected


def test_auto_asks_the_hardware():
    assert uses_bf16("auto") in {True, False}


def test_sums_are_in_one_order_while_it_tunes_and_as_before_afterwards():
    with same_sums():
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
