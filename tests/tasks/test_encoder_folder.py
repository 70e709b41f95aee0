import shutil

import pytest

from edgelr.errors import UnsupportedModelError
from edgelr.tasks.encoder_folder import load_transformer, read_tokenizer


def test_the_encoder_has_no_pooler_and_its_tokenizer_is_read(tiny_model):
    assert getattr(load_transformer(tiny_model), "pooler", None) is None
    assert read_tokenizer(tiny_model) == (tiny_model / "tokenizer.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "no-such-model"}'])
def test_a_configuration_that_is_no_models_is_refused(tiny_model, tmp_path, content):
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    (folder / "config.json").write_text(content)
    with pytest.raises(UnsupportedModelError):
        load_transformer(folder)
