"""What a recommender's configuration may say."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from edgelr.errors import UnsupportedModelError
from edgelr.tasks.recommendation_layout import Layout, read_layout


def test_it_is_what_it_was_when_it_is_read_again(tmp_path: Path) -> None:
    layout = Layout(model_type="two-tower", users=3, items=5, dim=2, hidden=4, item_groups=(2, 3))
    (tmp_path / "config.json").write_text(json.dumps(asdict(layout)))
    assert read_layout(tmp_path / "config.json") == layout


def test_a_configuration_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UnsupportedModelError, match="is of no recommender"):
        read_layout(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "transformer"}, "model_type is 'transformer'"),
        ({"item_groups": [30, 9]}, r"item_groups is \[30, 9\] of 40 items of two-tower"),
        ({"item_groups": [40, 0]}, "item_groups is 0, no size"),
        ({"item_groups": 3}, "is of no recommender"),
        ({"model_type": "deepfm"}, "features is 0, no size"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"dim": 0}, "dim is 0, no size"),
        ({"hidden": 1.5}, r"hidden is 1\.5, no size"),
        ({"layers": 2}, "is of no recommender"),
    ],
)
def test_a_config_that_is_wrong(shop: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    document = json.loads((shop / "two-tower" / "config.json").read_text())
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**document, **change}))
    with pytest.raises(UnsupportedModelError, match=message):
        read_layout(path)
