import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgelr.errors import DamagedArtifactError, UnsupportedModelError, UsageError
from edgelr.tasks.own_module import Own, PositionalModule, input_names, named_outputs, read_own

PATH = Path("net.py")


class Two(nn.Module):
    def forward(self, a: Tensor, *, b: Tensor, scale: float = 2.0) -> dict[str, Tensor]:
        return {"sum": scale * (a + b), "a": a}


def test_inputs_are_what_forward_and_batch_have_in_common() -> None:
    assert input_names(Two(), ["a", "b", "label"], None, PATH) == ("a", "b")
    assert input_names(Two(), ["b", "scale", "a"], None, PATH) == ("a", "b", "scale")
    assert input_names(Two(), ["a", "b"], ["b", "a"], PATH) == ("b", "a"), "the file's own order"
    with pytest.raises(UsageError, match=r"net.py: forward\(\) of Two wants 'b', and a batch has a, c"):
        input_names(Two(), ["a", "c"], None, PATH)


def test_outputs_have_names() -> None:
    one, two = torch.zeros(1), torch.ones(1)
    assert named_outputs(one) == {"output": one}
    assert named_outputs((one, two)) == {"output_0": one, "output_1": two}
    assert named_outputs({"x": one}) == {"x": one}
    for wrong in (3, None, (one, None), {"x": [one]}, [], nn.Linear(1, 1)):
        with pytest.raises(UnsupportedModelError, match="return"):
            named_outputs(wrong)


def test_it_is_exported_with_its_inputs_in_order() -> None:
    a, b = torch.ones(2), 3 * torch.ones(2)
    found = PositionalModule(Two(), ["b", "a"], ["a", "sum"])((b, a))
    assert [tensor.tolist() for tensor in found] == [[1, 1], [8, 8]]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    document = {"module": "/x/net.py:build", "inputs": ["a"], "outputs": ["y"], "axes": {"a": {"0": "batch"}}}
    (tmp_path / "own.json").write_text(json.dumps(document))
    own = Own(module="/x/net.py:build", inputs=("a",), outputs=("y",), axes={"a": {0: "batch"}})
    assert read_own(tmp_path) == own
    assert own.path == Path("/x/net.py")
    for name in document:
        (tmp_path / "own.json").write_text(json.dumps({**document, name: 3} if name == "axes" else {}))
        with pytest.raises(DamagedArtifactError, match=r"own.json is malformed"):
            read_own(tmp_path)
