import numpy as np
import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.errors import UnsupportedModelError
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.classify import logits_of, probabilities
from edgelr.runtime.examples import folder_examples
from edgelr.runtime.package import model_path
from edgelr.runtime.text import package_tokenizer


def test_shares_are_a_distribution_however_large_the_scores() -> None:
    np.testing.assert_allclose(probabilities(np.array([0, np.log(3)], np.float32)), [0.25, 0.75], rtol=1e-6)
    np.testing.assert_allclose(probabilities(np.array([1e5, 1e5], np.float32)), [0.5, 0.5])


def test_scores_are_those_of_torch(dense_classifier: Package, cpu: Device) -> None:
    from edgelr.examples import Labeled

    session = open_session(model_path(dense_classifier), cpu)
    tokenizer = package_tokenizer(dense_classifier)
    stored = read_arrays(dense_classifier.folder / "reference.npz")["dense_logits"]
    examples = folder_examples(dense_classifier.folder, Labeled)
    found = [logits_of(dense_classifier, session, tokenizer, each.text) for each in examples]
    np.testing.assert_allclose(np.stack(found), stored, atol=1e-3)


def test_a_graph_of_another_task_is_named(make_package, cpu: Device) -> None:
    package = make_package()
    session = open_session(model_path(package), cpu)
    with pytest.raises(UnsupportedModelError, match="the graph gives embedding, and no logits"):
        logits_of(package, session, package_tokenizer(package), "a text")
