"""Locations read from the bytes of an ONNX file, against what the onnx package says, and crafted files."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgelr.errors import DamagedArtifactError
from edgelr.runtime.external_data import MESSAGES, external_locations


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def model_with(entry: bytes) -> bytes:
    """A model whose one weight has an entry of external data, given as bytes."""
    tensor = field(8, b"w") + field(13, entry)
    return field(7, field(5, tensor))


def test_the_fields_are_those_of_onnx() -> None:
    for name, fields in MESSAGES.items():
        known = {
            each.number: each.message_type.name
            for each in getattr(onnx, name).DESCRIPTOR.fields
            if each.message_type is not None
        }
        assert fields == {
            number: inner for number, inner in known.items() if inner in {*MESSAGES, "TensorProto"}
        }


def test_every_place_a_weight_can_be_at(tmp_path: Path) -> None:
    def weight(name: str) -> TensorProto:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[300])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("offset", "4096"), ("location", f"{name}.data"), ("length", "1200")):
            tensor.external_data.add(key=key, value=value)
        return tensor

    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [300])
    inner = helper.make_graph([], "inner", [], [value], [weight("in a branch")])
    sparse = onnx.SparseTensorProto(values=weight("values"), indices=weight("indices"), dims=[9])
    node = helper.make_node("Any", [], ["y"], body=inner, one=weight("in an attribute"))
    node.attribute.append(helper.make_attribute("many", [weight("first"), weight("second")]))
    graph = helper.make_graph([node], "g", [], [value], [weight("w" * 200)], sparse_initializer=[sparse])
    function = onnx.FunctionProto(name="f", node=[helper.make_node("C", [], ["y"], value=weight("in f"))])
    model = helper.make_model(graph, functions=[function])
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    names = ["in a branch", "in an attribute", "first", "second", "w" * 200, "values", "indices", "in f"]
    assert sorted(external_locations(path)) == sorted((name, f"{name}.data") for name in names)


@pytest.mark.parametrize(
    "entry",
    [
        field(2, b"evil") + field(1, b"location"),
        field(1, b"location") + field(2, b"good") + field(2, b"evil"),
        field(15, b"\x6a\x02")
        + field(1, b"location")
        + field(2, b"good")
        + field(15, b"x")
        + field(2, b"evil"),
        field(1, b"other") + field(2, b"evil") + field(1, b"location"),
        field(1, b"location") + bytes([2 << 3 | 2, 0x84, 0x80, 0x00]) + b"evil",
    ],
)
def test_a_location_cannot_hide(tmp_path: Path, entry: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(model_with(entry))
    assert ("w", "evil") in external_locations(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x3a",
        b"\x3a\x05abc",
        b"\x3b",
        b"\xff" * 12,
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x09abc",
    ],
)
def test_what_is_no_message_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(DamagedArtifactError, match=r"m\.onnx cannot be read as an ONNX model"):
        external_locations(tmp_path / "m.onnx")
    with pytest.raises(DamagedArtifactError, match=r"gone\.onnx cannot be read"):
        external_locations(tmp_path / "gone.onnx")
