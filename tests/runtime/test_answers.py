from dataclasses import replace

import numpy as np
import pytest

from edgelr.device.session import open_session
from edgelr.errors import ExportError, QuantizeError
from edgelr.examples import Example
from edgelr.runtime.answers import (
    CheckedDecoder,
    check_finite,
    references_of,
    transcripts_of,
    translations_of,
    vectors_of,
)
from edgelr.runtime.audio import read_audio
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path


def test_vectors_of_queries_and_passages(make_package, cpu):
    package = make_package()
    pairs = [(example.query, example) for example in folder_examples(package.folder, Example)]
    calls = []
    queries, passages = vectors_of(
        package, open_session(model_path(package), cpu), pairs, lambda: calls.append(1)
    )
    assert queries.shape == passages.shape == (len(pairs), 16)
    assert len(calls) == 2 * len(pairs)
    np.testing.assert_allclose(np.linalg.norm(passages, axis=1), 1, rtol=1e-5)


def test_translations_have_single_spaces(dense_translator, translations, cpu):
    sessions = {
        role: open_session(model_path(dense_translator, role), cpu) for role in dense_translator.graphs
    }
    found = translations_of(dense_translator, sessions, translations[:3])
    assert len(found) == 3
    assert all(text == " ".join(text.split()) for text in found)
    assert references_of(translations[:2]) == [example.target for example in translations[:2]]


@pytest.mark.parametrize(("precision", "error"), [("fp32", ExportError), ("int8-dynamic", QuantizeError)])
def test_numbers_that_are_none(make_package, reseal, precision, error):
    package = reseal(make_package().folder, precision=precision)
    check_finite(np.zeros(3, np.float32), package)
    with pytest.raises(error, match=f"the {precision} graph of tiny gives NaN or infinity"):
        check_finite(np.array([0, np.inf], np.float32), package)


def test_transcripts_have_single_spaces(dense_speech, sounds, utterances, cpu):
    sessions = {role: open_session(model_path(dense_speech, role), cpu) for role in dense_speech.graphs}
    calls = []
    pcms = (read_audio(sounds / each.audio) for each in utterances[:3])
    found = transcripts_of(dense_speech, sessions, pcms, lambda: calls.append(1))
    assert len(found) == len(calls) == 3
    assert all(text == " ".join(text.split()) != "" for text in found)


class Fixed:
    """A decoder with these scores at every step."""

    def __init__(self, scores):
        self.scores, self.calls = np.array([scores], np.float32), []

    def read(self, source):
        self.calls.append("read")

    def start(self, rows):
        self.calls.append("start")

    def step(self, tokens):
        self.calls.append("step")
        return self.scores

    def reorder(self, rows):
        self.calls.append("reorder")


def test_numbers_pass_through_a_checked_decoder(make_package):
    decoder = Fixed([1.0, -2.0])
    checked = CheckedDecoder(decoder, make_package())
    checked.read({})
    checked.start(1)
    assert checked.step(np.array([0])) is decoder.scores
    checked.reorder(np.array([0]))
    assert decoder.calls == ["read", "start", "step", "reorder"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("precision", "error"), [("fp32", ExportError), ("int8-dynamic", QuantizeError)])
def test_what_is_no_number_is_no_output(make_package, value, precision, error):
    checked = CheckedDecoder(Fixed([1.0, value]), replace(make_package(), precision=precision))
    with pytest.raises(error, match="gives NaN or infinity"):
        checked.step(np.array([0]))
