"""The recipe of the quickstart with few steps, on the real model and text: minutes, so marked slow."""

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from edgelr.pipeline import build
from edgelr.runtime.package import open_package
from edgelr.runtime.text import search

RECIPE = Path(__file__).parents[2] / "recipes" / "docs-search.yaml"
FREE_TO_CHANGE = {"session.json"}  # measured settings


@pytest.fixture(scope="module")
def short_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    document = YAML(typ="safe").load(RECIPE.read_text(encoding="utf-8"))
    document["finetune"] |= {"steps": 4, "batch": 8}
    document["compress"]["calibration"] = {"examples": 64, "sensitivity_examples": 8}
    document["task"]["data"] |= {"test": 60, "validation": 20}
    document["validate"] |= {"seconds": 3, "gates": [{"metric": "cosine", "min": 0.5}]}
    path = tmp_path_factory.mktemp("recipe") / "docs-search.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    return path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_builds_from_empty_stores_give_the_same_bytes(short_recipe: Path, tmp_path: Path) -> None:
    first, second = (build(short_recipe, tmp_path / name / "docs-search") for name in ("one", "two"))
    assert first.package is not None
    assert second.package is not None
    names = {path.name for path in first.package.iterdir()} - FREE_TO_CHANGE
    assert names == {path.name for path in second.package.iterdir()} - FREE_TO_CHANGE
    different = [
        name for name in names if (first.package / name).read_bytes() != (second.package / name).read_bytes()
    ]
    assert different == []
    assert not any(row["reused"] for row in second.document["stages"])
    # An encoder this little tuned still knows what copying a file is about.
    found = search(open_package(first.package), "how do I copy a file", top=5)
    assert any(match.id.split(".")[0] in {"shutil", "os", "pathlib"} for match in found)
