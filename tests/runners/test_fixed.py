"""One graph a size, behind one with open sizes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session, session_options
from edgelr.errors import UnsupportedModelError
from edgelr.runners.fixed import FixedShapes, file_entries
from edgelr.runtime.graph import run_graph
from edgelr.runtime.package import model_path
from edgelr.runtime.shapes import fixed_sizes
from edgelr.runtime.text import batch_tokens, embed, package_tokenizer

SIZES = ({"batch": 1, "tokens": 6}, {"batch": 1, "tokens": 20})


@pytest.fixture
def opened() -> list[Mapping[str, int]]:
    return []


@pytest.fixture
def fixed(
    make_package: Callable[..., Package], cpu: Device, opened: list[Mapping[str, int]]
) -> tuple[FixedShapes, Package]:
    import onnxruntime

    package = make_package()
    path = model_path(package)

    def open_at(sizes: Mapping[str, int]) -> Any:
        opened.append(sizes)
        options = session_options(cpu)
        for axis, size in sizes.items():
            options.add_free_dimension_override_by_name(axis, size)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    return FixedShapes(*file_entries(path), SIZES, open_at), package


def test_the_smallest_size_that_fits_is_opened_when_it_is_needed(
    fixed: tuple[FixedShapes, Package], opened: list[Mapping[str, int]]
) -> None:
    graph, _ = fixed
    assert opened == [SIZES[1]], "the largest at once"
    for length, expected in ((3, [SIZES[1], SIZES[0]]), (6, [SIZES[1], SIZES[0]]), (7, [SIZES[1], SIZES[0]])):
        ones = np.ones((1, length), np.int64)
        graph.run(None, {"input_ids": ones, "attention_mask": ones})
        assert opened == expected


def test_results_are_those_of_open_sizes(fixed: tuple[FixedShapes, Package], cpu: Device) -> None:
    graph, package = fixed
    session, tokenizer = open_session(model_path(package), cpu), package_tokenizer(package)
    texts = ["copy a file", "parse csv rows", "Put the items of a sequence in random order in place."]
    np.testing.assert_allclose(
        embed(graph, tokenizer, texts), embed(session, tokenizer, texts), rtol=0, atol=1e-6
    )
    batch = batch_tokens(tokenizer, texts)
    (found,) = graph.run(["embedding"], batch)
    np.testing.assert_allclose(found, session.run(["embedding"], batch)[0], rtol=0, atol=1e-6)


def test_what_is_longer_than_every_size_is_refused(fixed: tuple[FixedShapes, Package]) -> None:
    ones = np.ones((1, 21), np.int64)
    with pytest.raises(
        UnsupportedModelError, match=r"longer than the largest fixed size.*\n.*export\.shapes"
    ):
        fixed[0].run(None, {"input_ids": ones, "attention_mask": ones})


def test_an_axis_without_a_size_is_refused(make_package: Callable[..., Package]) -> None:
    path: Path = model_path(make_package())
    with pytest.raises(UnsupportedModelError, match="open axis 'tokens', of which no fixed size is known"):
        FixedShapes(*file_entries(path), ({"batch": 1},), lambda sizes: pytest.fail("opened"))


def test_a_translation_at_fixed_sizes_is_the_one_at_open_sizes(
    masked_files: Path, reseal_translation: Callable[..., Package], cpu: Device
) -> None:
    import onnxruntime

    from edgelr.runtime.translate import translate, translator_of

    package = reseal_translation(masked_files)
    opened: list[Mapping[str, int]] = []

    def fixed(role: str) -> FixedShapes:
        path = model_path(package, role)

        def open_at(sizes: Mapping[str, int]) -> Any:
            opened.append(sizes)
            options = session_options(cpu)
            for axis, size in sizes.items():
                options.add_free_dimension_override_by_name(axis, size)
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        return FixedShapes(*file_entries(path), fixed_sizes(package), open_at)

    graphs = {role: fixed(role) for role in package.graphs}
    free = {role: open_session(model_path(package, role), cpu) for role in package.graphs}
    texts = ["copy a file", "parse csv rows and print them"]
    for beams in (1, 3):
        found, right = (
            list(translate(translator_of(package, each), texts, beams=beams, batch=2))
            for each in (graphs, free)
        )
        assert found == right
    assert {"past" in sizes for sizes in opened} == {True, False}, "an encoder has no past"


def test_outputs_are_cut_to_the_length_of_the_input() -> None:
    from edgelr.runners.protocol import Entry

    class Doubling:
        def run(self, names: Any, feeds: Mapping[str, Any]) -> list[Any]:
            assert feeds["x"].shape == (1, 4)
            return [feeds["x"] * 2]

    entry = Entry(name="x", type="tensor(int64)", shape=("batch", "tokens"))
    graph = FixedShapes([entry], [entry], ({"tokens": 4},), lambda sizes: Doubling())  # type: ignore[arg-type,return-value]
    (found,) = graph.run(None, {"x": np.array([[1, 2, 3], [4, 5, 6]])})
    np.testing.assert_array_equal(found, [[2, 4, 6], [8, 10, 12]])


def test_a_node_that_fails_at_run_time_is_told(make_package: Callable[..., Package], cpu: Device) -> None:
    fixed = replace(cpu, shapes="fixed")
    graph = open_session(model_path(make_package()), fixed, sizes=SIZES)
    feeds = {"input_ids": np.array([[5, 10**6]]), "attention_mask": np.ones((1, 2), np.int64)}
    with pytest.raises(UnsupportedModelError, match=r"fails on a graph with input_ids \[1, 2\].*Gather"):
        run_graph(graph, feeds)
