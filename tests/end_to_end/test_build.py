from pathlib import Path

import pytest

from edgelr.artifact_files import read_plan
from edgelr.device.load import load_devices
from edgelr.device.session import open_session
from edgelr.pipeline import build
from edgelr.runtime.arrays import read_arrays


def test_two_builds_from_empty_stores_give_the_same_bytes(built: Path, tmp_path: Path):
    again = build(built / "tiny.yaml", tmp_path / "tiny")
    assert again.package is not None
    first = built / "tiny" / "package"
    names = {path.name for path in first.iterdir()}
    assert names == {path.name for path in again.package.iterdir()}
    assert [n for n in names if (first / n).read_bytes() != (again.package / n).read_bytes()] == []


@pytest.mark.parametrize("form", ["low-rank", "joint", "query-key", "value-output"])
def test_every_form_of_reduction_is_built_and_equals_torch(tiny_recipe: Path, tmp_path: Path, form: str):
    groups = "[]" if form == "low-rank" else f"[{form}]"
    # Only the layers that the form is of, at a share that leaves no other choice.
    layers = "*" if form in ("low-rank", "joint") else "*attention*"
    text = tiny_recipe.read_text().replace(
        "keep: {parameters: 0.6}", f"keep: {{parameters: 0.3}}\n  groups: {groups}\n  include: ['{layers}']"
    )
    start, end = text.index("finetune:"), text.index("quantize:")
    tiny_recipe.write_text(text[:start] + text[end:])
    build(tiny_recipe, tmp_path / "tiny", until="export")
    store = tmp_path / ".store"
    plan = read_plan(next((store / "plan").glob("*/manifest.json")).parent)
    assert form in {reduction.form for reduction in plan.reductions}
    assert {reduction.form for reduction in plan.reductions} <= {form, "low-rank"}
    assert plan.kept_share <= 0.3
    folder = next((store / "export").glob("*/package.json")).parent
    arrays = read_arrays(folder / "reference.npz")
    session = open_session(folder / "model.onnx", load_devices()["cpu-1t"])
    for number in range(3):
        feeds = {name: arrays[f"{name}.{number}"] for name in ("input_ids", "attention_mask")}
        (found,) = session.run(["embedding"], feeds)
        assert abs(found - arrays[f"embedding.{number}"]).max() < 2e-4  # export.tolerance
    assert plan.candidate.macs < plan.dense.macs
