"""A checkpoint of a stranger: read strictly, executed never, and named with what is wrong with it."""

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
from edgelr.tasks.pretrained import load_pretrained, read_json, reason_of

WEIGHTS = "model.safetensors"


def load(folder: Path) -> nn.Module:
    return load_pretrained(folder, "AutoModel", "an encoder", ("pooler.",))


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


def test_a_bin_of_tensors_is_the_same_model(folder, tiny_model):
    as_bin(folder, load_file(folder / WEIGHTS))
    one, other = (load(path).state_dict() for path in (folder, tiny_model))
    assert one.keys() == other.keys()
    # What may be missing is made up.
    names = {name for name in one if not name.startswith("pooler.")}
    assert all(torch.equal(one[name], other[name]) for name in names)


def test_weights_are_read_in_full_precision(folder):
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    configure(folder, dtype="bfloat16")
    assert {parameter.dtype for parameter in load(folder).parameters()} == {torch.float32}


def test_what_the_task_does_not_use_may_be_missing_or_too_many(folder):
    tensors = load_file(folder / WEIGHTS) | {"cls.predictions.bias": torch.zeros(9)}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match=r"1 tensors .* are unexpected: cls\.predictions\.bias"):
        load(folder)
    with pytest.raises(UnsupportedModelError, match=r"2 tensors .* are missing: pooler\.dense\.bias"):
        load_pretrained(folder, "AutoModel", "an encoder", ("cls.",))
    load_pretrained(folder, "AutoModel", "an encoder", ("cls.", "pooler."))


def test_the_class_of_transformers_is_the_one_asked_for(folder, tiny_translator):
    assert type(load_pretrained(tiny_translator, "AutoModelForSeq2SeqLM", "it")).__name__ == "MarianMTModel"
    with pytest.raises(UnsupportedModelError, match="cannot be loaded as a translation model: ValueError"):
        load_pretrained(folder, "AutoModelForSeq2SeqLM", "a translation model")


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
        load(folder)
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
        load(folder)
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
        load(folder)


def test_a_family_without_fused_attention_is_loaded(tmp_path):
    from transformers import DebertaV2Config, DebertaV2Model

    config = DebertaV2Config(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    DebertaV2Model(config).save_pretrained(tmp_path)
    assert isinstance(load(tmp_path), nn.Module)


def test_many_tensors_are_not_all_listed(folder):
    tensors = load_file(folder / WEIGHTS)
    kept = {name: tensor for name, tensor in tensors.items() if "layer.1" not in name}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match=r"16 tensors .* are missing: .*, …") as error:
        load(folder)
    assert str(error.value).count("encoder.layer.1") == 4


def test_numbers_that_are_not_finite_are_refused_with_the_folder(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["encoder.layer.0.output.dense.weight"][0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match="not finite") as error:
        load(folder)
    assert str(folder) in str(error.value)


# --- what is said -----------------------------------------------------------------------------------


def test_a_reason_is_one_line_and_advises_nothing_unsafe():
    assert reason_of(ValueError("first\nsecond")) == "ValueError: first"
    assert reason_of(EOFError()) == "EOFError"
    said = reason_of(pickle.UnpicklingError("use weights_only=False"))
    assert "weights_only" not in said
    assert "never executed" in said


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, None])
def test_json_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnsupportedModelError, match=r"config\.json cannot be read"):
        read_json(path)
