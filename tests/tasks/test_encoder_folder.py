import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgelr.errors import UnsupportedModelError
from edgelr.tasks.encoder_folder import load_transformer, read_pooling, read_tokenizer

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny_model, tmp_path) -> Path:
    """A copy of the tiny model to break."""
    return Path(shutil.copytree(tiny_model, tmp_path / "m"))


def configure(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def as_bin(folder: Path, content: bytes | object) -> None:
    (folder / WEIGHTS).unlink()
    path = folder / "pytorch_model.bin"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)


def test_the_encoder_has_no_pooler_and_its_tokenizer_is_read(tiny_model):
    assert getattr(load_transformer(tiny_model), "pooler", None) is None
    assert read_tokenizer(tiny_model) == (tiny_model / "tokenizer.json").read_text(encoding="utf-8")


def test_a_bin_of_tensors_is_the_same_model(folder, tiny_model):
    as_bin(folder, load_file(folder / WEIGHTS))
    one, other = (load_transformer(path).state_dict() for path in (folder, tiny_model))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_head_of_pre_training_is_left_out(folder, tiny_model):
    tensors = {f"bert.{name}": tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    tensors |= {"cls.predictions.bias": torch.zeros(9), "bert.pooler.dense.bias": torch.zeros(64)}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    assert load_transformer(folder).state_dict().keys() == load_transformer(tiny_model).state_dict().keys()


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (lambda f: (f / WEIGHTS).write_bytes(b"garbage" * 100), "SafetensorError"),
    "empty": (lambda f: (f / WEIGHTS).write_bytes(b""), "SafetensorError"),
    "truncated": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-9]),
        "not fully covered",
    ),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), r"config\.json cannot be read"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), r"config\.json is not an object"),
    "no type": (lambda f: (f / "config.json").write_text("{}"), "model_type"),
    "unknown type": (lambda f: configure(f, model_type="no-such-model"), "no-such-model"),
    "own code": (
        lambda f: configure(f, model_type="own", auto_map={"AutoConfig": "a.B", "AutoModel": "a.C"}),
        "custom code",
    ),
    "type of a value": (lambda f: configure(f, hidden_size="64"), "hidden_size"),
    "no heads": (lambda f: configure(f, num_attention_heads=0), "ZeroDivisionError"),
    "negative": (lambda f: configure(f, hidden_size=-4), "negative dimension"),
    "odd activation": (lambda f: configure(f, hidden_act="none-such"), "none-such"),
    "padding": (lambda f: configure(f, pad_token_id=10_000), "Padding_idx"),
    "labels": (lambda f: configure(f, id2label=5), "AttributeError"),
    "other shape": (lambda f: configure(f, intermediate_size=96), "cannot be loaded"),
    "too few layers": (lambda f: configure(f, num_hidden_layers=1), "16 tensors .* are unexpected"),
    "too many layers": (lambda f: configure(f, num_hidden_layers=3), "16 tensors .* are missing"),
    "quantized": (lambda f: configure(f, quantization_config={"quant_method": "gptq"}), "quantized already"),
    "empty bin": (lambda f: as_bin(f, b""), "EOFError"),
    "garbage bin": (lambda f: as_bin(f, b"garbage" * 99), "damaged or holds more than tensors"),
    "bin of a list": (lambda f: as_bin(f, [1, 2]), "TypeError"),
    "truncated bin": (
        lambda f: (as_bin(f, {"a": torch.zeros(999)}), cut(f / "pytorch_model.bin")),
        "cannot be loaded",
    ),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_loaded_is_refused_with_the_folder_and_the_reason(folder, fault):
    breaks, message = FAULTS[fault]
    breaks(folder)
    with pytest.raises(UnsupportedModelError, match=message) as error:
        load_transformer(folder)
    assert str(folder) in str(error.value)
    assert error.value.exit_code == 4


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["raw", "zip", "old"])
def test_a_pickled_payload_is_never_executed(folder, tmp_path, form):
    target = tmp_path / "executed"
    as_bin(folder, pickle.dumps(Payload(target)))
    if form != "raw":
        path = folder / "pytorch_model.bin"
        torch.save({"a": Payload(target)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(UnsupportedModelError, match="which is never executed") as error:
        load_transformer(folder)
    assert not target.exists()
    assert "weights_only" not in str(error.value)  # torch advises to turn the protection off


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "cannot be read"),
        ("{}", "has no weight_map"),
        ('{"weight_map": {"a": "../other/model.safetensors"}}', "not a file of its folder"),
        ('{"weight_map": {"a": "/etc/model.safetensors"}}', "not a file of its folder"),
        ('{"weight_map": {"a": "none.safetensors"}}', "not a file of its folder"),
    ],
)
def test_an_index_names_files_of_its_folder(folder, index, message):
    (folder / WEIGHTS).rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UnsupportedModelError, match=message):
        load_transformer(folder)


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


def test_a_family_without_fused_attention_is_loaded(tmp_path):
    from transformers import DebertaV2Config, DebertaV2Model

    config = DebertaV2Config(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    DebertaV2Model(config).save_pretrained(tmp_path)
    assert isinstance(load_transformer(tmp_path), nn.Module)


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
