import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgelr.errors import UnsupportedModelError
from edgelr.tasks.encoder_folder import load_transformer, read_pooling, read_tokenizer

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny_model, tmp_path) -> Path:
    """A copy of the tiny model to break."""
    return Path(shutil.copytree(tiny_model, tmp_path / "m"))


def test_the_encoder_has_no_pooler_and_its_tokenizer_is_read(tiny_model):
    assert getattr(load_transformer(tiny_model), "pooler", None) is None
    assert read_tokenizer(tiny_model) == (tiny_model / "tokenizer.json").read_text(encoding="utf-8")


def test_a_head_of_pre_training_is_left_out(folder, tiny_model):
    tensors = {f"bert.{name}": tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    tensors |= {"cls.predictions.bias": torch.zeros(9), "bert.pooler.dense.bias": torch.zeros(64)}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    assert load_transformer(folder).state_dict().keys() == load_transformer(tiny_model).state_dict().keys()


def test_a_model_of_something_else_is_named(tmp_path):
    from transformers import T5Config, T5Model, ViTConfig, ViTModel

    t5 = T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    vit = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32
    )
    for model in (T5Model(t5), ViTModel(vit)):
        model.save_pretrained(tmp_path / "m")
        with pytest.raises(UnsupportedModelError, match=f"{type(model).__name__}, which is not an encoder"):
            load_transformer(tmp_path / "m")
        shutil.rmtree(tmp_path / "m")


# --- pooling ----------------------------------------------------------------------------------------


def write_modules(folder: Path, kinds: tuple[str, ...], pooling: object) -> None:
    rows = [
        {"type": f"sentence_transformers.models.{k}", "path": "" if k == "Transformer" else k} for k in kinds
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "Pooling").mkdir(exist_ok=True)
    (folder / "Pooling" / "config.json").write_text(json.dumps(pooling))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_mean_tokens": True, "word_embedding_dimension": 64}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_pooling_and_normalization_are_those_of_the_layout(tmp_path, config, expected):
    write_modules(tmp_path, ("Transformer", "Pooling"), config)
    assert read_pooling(tmp_path) == (expected, False)
    write_modules(tmp_path, ("Transformer", "Pooling", "Normalize"), config)
    assert read_pooling(tmp_path) == (expected, True)


def test_a_plain_folder_has_mean_pooling_and_unit_length(tmp_path):
    assert read_pooling(tmp_path) == ("mean", True)


@pytest.mark.parametrize(
    ("kinds", "config", "message"),
    [
        (("Transformer", "Pooling", "Dense"), {}, "the module kind Dense is not supported"),
        (("Pooling",), {"pooling_mode_lasttoken": True}, "pooling pooling_mode_lasttoken is not supported"),
        (
            ("Pooling",),
            {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True},
            "pooling_mode_cls_token and pooling_mode_max_tokens is not supported",
        ),
        (("Pooling",), {"pooling_mode": "lasttoken"}, "pooling lasttoken is not supported"),
        (("Pooling",), {}, "pooling none is not supported"),
        (("Pooling",), [], "is not an object"),
    ],
)
def test_a_pooling_that_cannot_be_exported_is_named(tmp_path, kinds, config, message):
    write_modules(tmp_path, kinds, config)
    with pytest.raises(UnsupportedModelError, match=message):
        read_pooling(tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "{}x", "[1]", '[{"type": "a.Pooling"}]', '[{"type": "Pooling", "path": 1}]']
)
def test_a_malformed_list_of_modules_is_named(tmp_path, content):
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(UnsupportedModelError, match=r"modules\.json"):
        read_pooling(tmp_path)


# --- tokenizer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"{", b"{}", b"\xff"])
def test_a_damaged_tokenizer_is_refused(folder, content):
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(UnsupportedModelError, match="tokenizer"):
        read_tokenizer(folder)


def test_a_folder_without_a_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModelError, match="no vocabulary was found"):
        read_tokenizer(folder)
    (folder / "vocab.txt").write_bytes(b"\xff")
    with pytest.raises(UnsupportedModelError, match="no usable tokenizer: UnicodeDecodeError"):
        read_tokenizer(folder)


def test_a_tokenizer_is_made_of_a_vocabulary(folder):
    from edgelr.runtime.text import parse_tokenizer

    (folder / "tokenizer.json").unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "copy", "file"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = parse_tokenizer(read_tokenizer(folder), 8)
    assert tokenizer.encode("Copy file").tokens == ["[CLS]", "copy", "file", "[SEP]"]
