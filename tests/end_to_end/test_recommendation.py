"""A recommender from interactions to titles: trained first, or a user's own folder; and what can go wrong."""

import json
from pathlib import Path

import pytest

from edgelr.cli import cli
from edgelr.errors import DataError
from edgelr.metrics import METRICS
from edgelr.pipeline import build
from edgelr.runtime.package import open_package
from edgelr.terminal import run_command

TRAIN = {"train": {"type": "matrix-factorization", "dim": 16, "epochs": 20, "batch": 8}}


def test_a_model_is_trained_compressed_and_used(shop_recipe, tmp_path, capsys) -> None:
    recipe = shop_recipe(tmp_path, TRAIN, quantize={"scheme": "int8-dynamic"}, export={"top": 20})
    report = build(recipe, tmp_path / "shop")
    assert [row["stage"] for row in report.document["stages"]][:2] == ["train", "load"]
    assert report.package is not None
    package = open_package(report.package)
    assert package.task == "recommendation"
    rows = report.document["accuracy"]
    assert {row["metric"] for row in rows} == set(METRICS["recommendation"])
    dense = {row["metric"]: row["value"] for row in rows if row["variant"] == "dense-fp32"}
    assert dense["auc"] > 0.6, "tastes are easy to tell"
    assert dense["overlap@20"] == 1.0

    command = ["run", str(report.package), "--user", "u3", "--top", "4", "--json"]
    assert run_command(cli, command) == 0
    shown = capsys.readouterr()
    (found,) = json.loads(shown.out.splitlines()[-1])["recommendations"]
    assert [item["title"] for item in found["items"]] == [f"Thing, {item['item']}" for item in found["items"]]
    scores = [item["score"] for item in found["items"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(int(item["item"]) % 2 for item in found["items"]) >= 3, "who is odd likes what is odd"
    assert run_command(cli, ["run", str(report.package), "--user", "u99"]) == DataError.exit_code
    assert "user 'u99' is none of the 30 that the package knows" in capsys.readouterr().err
    assert run_command(cli, ["run", str(report.package), "--beam", "2", "u1"]) == 2
    assert "it has --user, --top" in capsys.readouterr().err
    assert run_command(cli, ["run", str(report.package)]) == 2


def test_candidates_are_scored_by_who_and_what_they_are(shop_recipe, tmp_path: Path, capsys) -> None:
    train = {"type": "deepfm", "dim": 8, "hidden": 16, "epochs": 10, "batch": 8}
    recipe = shop_recipe(tmp_path, {"train": train}, export={"top": 20}, quantize={"scheme": "int8-dynamic"})
    report = build(recipe, tmp_path / "shop")
    layers = {row["name"]: row["form"] for row in report.document["layers"]}
    assert {"users", "items", "features", "deep_user", "deep_item", "deep"} <= set(layers)
    assert "low-rank" in layers.values()
    assert report.package is not None
    package = open_package(report.package)
    assert [entry.name for entry in package.graphs["model"].inputs] == ["user", "item", "seen"]
    dense = {
        row["metric"]: row["value"] for row in report.document["accuracy"] if row["variant"] == "dense-fp32"
    }
    assert dense["auc"] > 0.8, "what they are says it all"
    assert run_command(cli, ["run", str(report.package), "--user", "u3", "--top", "4", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out.splitlines()[-1])["recommendations"]
    assert sum(int(item["item"]) % 2 for item in found["items"]) >= 3


def test_items_that_are_met_little_may_take_less_rank(shop_recipe, tmp_path: Path) -> None:
    train = {"type": "two-tower", "dim": 16, "hidden": 8, "epochs": 10, "batch": 8, "item_groups": [0.5]}
    recipe = shop_recipe(tmp_path, {"train": train})
    build(recipe, tmp_path / "shop", until="plan")
    (plan,) = (tmp_path / ".store" / "plan").glob("*/plan.json")
    ranks = {row["name"]: row["rank"] for row in json.loads(plan.read_text())["sites"]}
    assert {"items.parts.0", "items.parts.1"} <= set(ranks)


def test_a_users_own_two_tower_is_tuned(shop, shop_recipe, tmp_path: Path) -> None:
    tuning = {"steps": 4, "batch": 8, "validate_every": 2, "task_loss": 0.1}
    recipe = shop_recipe(tmp_path, {"path": str(shop / "two-tower")}, finetune=tuning)
    build(recipe, tmp_path / "shop", until="export")
    (plan,) = (tmp_path / ".store" / "plan").glob("*/plan.json")
    forms = {row["name"]: row["form"] for row in json.loads(plan.read_text())["sites"]}
    assert set(forms) == {"users", "items", "tower.0", "tower.2"}
    assert "low-rank" in forms.values()
    (manifest,) = (tmp_path / ".store" / "export").glob("*/package.json")
    package = open_package(manifest.parent)
    assert [entry.name for entry in package.graphs["model"].inputs] == ["user", "seen"]


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("clicks.csv", "user,thing,time\nu1,1,1\n", r"clicks.csv:1: the column 'item' is missing"),
        ("clicks.csv", "user,item,time\nu1,1,now\n", r"clicks.csv:2: 'time' is 'now', no number"),
        (
            "clicks.csv",
            "user,item,time\nu1,1,1\nu1,77,2\n",
            r"clicks.csv:3: the item '77' is none of the model",
        ),
    ],
)
def test_bad_interactions_end_with_their_line(
    shop, shop_recipe, tmp_path: Path, capsys, name: str, line: str, message: str
) -> None:
    recipe = shop_recipe(tmp_path, {"path": str(shop / "two-tower")})
    (tmp_path / name).write_text(line)
    recipe.write_text(recipe.read_text().replace(str(shop / name), name))
    assert run_command(cli, ["plan", str(recipe), "--out", str(tmp_path / "out")]) == DataError.exit_code
    assert message in capsys.readouterr().err
