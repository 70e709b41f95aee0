import numpy as np
import pytest

from edgelr.device.session import open_session
from edgelr.errors import ExportError, QuantizeError
from edgelr.examples import Example
from edgelr.runtime.answers import check_finite, references_of, translations_of, vectors_of
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
