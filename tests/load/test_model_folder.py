import json
import shutil
from pathlib import Path

import onnx
import pytest
from graph_models import network

from edgelr.errors import MissingRequirementError, UnsupportedModelError, UsageError
from edgelr.load.model_folder import card_license, find_model, fingerprint, label_names, window_s
from edgelr.recipe.schema import Model


def test_a_folder_next_to_the_recipe_is_found(tiny_model):
    assert find_model(Model(path=tiny_model.name), tiny_model.parent) == tiny_model


def test_a_folder_inside_a_package_is_found():
    with pytest.raises(
        UnsupportedModelError, match=r"click/\. has no config\.json|click has no config\.json"
    ):
        find_model(Model(path=".", package="click"), Path())


def test_faults(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match="does not exist"):
        find_model(Model(path="./nowhere"), tmp_path)
    with pytest.raises(UsageError, match=r"neither a folder .* nor a hub model that can be reached"):
        find_model(Model(path="nobody/nothing"), tmp_path)
    with pytest.raises(MissingRequirementError, match="'no_such_package' is not installed"):
        find_model(Model(path="m", package="no_such_package"), tmp_path)
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModelError, match="has no weights"):
        find_model(Model(path="m"), tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(UnsupportedModelError, match=r"no config\.json"):
        find_model(Model(path="m"), tmp_path)


def test_the_fingerprint_follows_the_weights_and_not_the_card(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    before = fingerprint(folder)
    assert before == fingerprint(tiny_model)
    (folder / "README.md").write_text("another card")
    assert fingerprint(folder) == before
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert fingerprint(folder) != before


def test_the_license_is_that_of_the_card(tiny_model, tmp_path):
    assert card_license(tiny_model) == "apache-2.0"
    assert card_license(tmp_path) is None


def test_how_much_a_whisper_hears_at_once(tiny_whisper, tiny_model, tmp_path):
    assert window_s(tiny_whisper) == 2.0
    assert window_s(tiny_model) is None
    assert window_s(tmp_path) is None
    for content in ("{", "[]", '{"model_type": "whisper"}', '{"max_source_positions": 5}'):
        (tmp_path / "config.json").write_text(content)
        assert window_s(tmp_path) is None


def test_an_onnx_file_is_a_model_with_its_weights(tmp_path):
    path = tmp_path / "a.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    model = Model(path="a.onnx")
    assert find_model(model, tmp_path) == path
    before = fingerprint(path)
    (tmp_path / "other.txt").write_text("nothing of it")
    assert fingerprint(path) == before
    weights = (tmp_path / "w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(weights[:-1] + b"x")
    assert fingerprint(path) != before
    assert card_license(path) is None
    (tmp_path / "w.bin").unlink()
    with pytest.raises(UnsupportedModelError, match=r"has weights in .*w\.bin, which is missing"):
        find_model(model, tmp_path)
    path.write_text("no protobuf", encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match="is no ONNX model"):
        find_model(model, tmp_path)
    with pytest.raises(UsageError, match=r"there is no file .*b\.onnx"):
        find_model(Model(path="b.onnx"), tmp_path)


def test_labels_are_in_the_order_of_the_scores(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"id2label": {"10": "c", "2": "b", "0": "a"}}))
    assert label_names(tmp_path) == ("a", "b", "c")
    for other in ("{}", "oops", '{"id2label": {"x": "a"}}'):
        config.write_text(other)
        assert label_names(tmp_path) == ("LABEL_0", "LABEL_1")
