"""What the first graph of a package reads, of its examples."""

import numpy as np

from edgelr.examples import Utterance
from edgelr.kinds.sources import sound_sources, text_sources
from edgelr.runtime.examples import example_sound, folder_examples


def test_texts_are_tokens_with_a_mask(dense_translator, translations):
    sources = text_sources(dense_translator, translations[:3])
    assert [set(source) for source in sources] == [{"input_ids", "attention_mask"}] * 3
    for source in sources:
        assert source["input_ids"].shape == source["attention_mask"].shape
        assert source["attention_mask"].all()


def test_sounds_are_features_of_a_window(dense_speech):
    examples = folder_examples(dense_speech.folder, Utterance)[:3]
    sources = sound_sources(dense_speech, examples, dense_speech.folder)
    assert [source["input_features"].shape for source in sources] == [(1, 80, 200)] * 3
    assert all(np.isfinite(source["input_features"]).all() for source in sources)
    assert not np.array_equal(sources[0]["input_features"], sources[2]["input_features"])


def test_a_model_of_samples_reads_as_many_as_there_are(moonshine_package):
    package = moonshine_package("plain")
    examples = folder_examples(package.folder, Utterance)[:3]
    sources = sound_sources(package, examples, package.folder)
    lengths = [len(example_sound(package.folder, each)) for each in examples]
    assert [source["input_values"].shape for source in sources] == [(1, length) for length in lengths]
    assert lengths == sorted(set(lengths))
