"""Inputs and outputs that stay where they are; in the host's memory, as there was no GPU."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import session_options
from edgelr.errors import UnsupportedModelError
from edgelr.runners.captured import CapturedGraph
from edgelr.runtime.package import model_path


def test_it_gives_what_the_session_gives(make_package: Callable[..., Package], cpu: Device) -> None:
    path = model_path(make_package())
    options = session_options(cpu)
    for axis, size in {"batch": 1, "tokens": 6}.items():
        options.add_free_dimension_override_by_name(axis, size)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    graph = CapturedGraph(session, "cpu")
    kept = []
    for first in (5, 9):
        ids = np.arange(first, first + 6)[None]
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        right = session.run(None, feeds)
        found = graph.run(None, feeds)
        np.testing.assert_array_equal(found, right)
        kept.append((found[0], right[0]))
    np.testing.assert_array_equal(*kept[0], err_msg="the second run changed the first one's output")
    assert [entry.name for entry in graph.get_inputs()] == [entry.name for entry in session.get_inputs()]


def test_open_sizes_cannot_be_captured(make_package: Callable[..., Package], cpu: Device) -> None:
    path = model_path(make_package())
    session = onnxruntime.InferenceSession(path, session_options(cpu), providers=["CPUExecutionProvider"])
    with pytest.raises(UnsupportedModelError, match=r"'input_ids' has a size that is not known.*'batch'"):
        CapturedGraph(session, "cpu")
