"""The recipe of a module of one's own, from its file to a package that is used."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from own_modules import write_module
from ruamel.yaml import YAML

from edgelr.cli import cli
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.package import open_package
from edgelr.terminal import run_command

FILE = "noise-filter/noise_filter.py"
RECIPES = Path(__file__).parents[2] / "recipes"


def write_recipe(folder: Path, document: dict) -> Path:
    path = folder / f"{document['name']}.yaml"
    YAML(typ="safe").dump(document, path)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe that the README shows, with less of everything."""
    folder = tmp_path_factory.mktemp("noise-filter")
    shutil.copytree(RECIPES / "noise-filter", folder / "noise-filter")
    document = YAML(typ="safe").load(RECIPES / "noise-filter.yaml")
    document["task"]["data"] = {"train": 32, "validation": 8, "test": 6}
    document["finetune"]["steps"] = 4
    document["validate"] |= {"baselines": [], "seconds": 0.3, "gates": [{"metric": "metric", "max_drop": 1}]}
    path = write_recipe(folder, document)
    assert run_command(cli, ["build", str(path), "--out", str(folder / "build")]) == 0
    return folder


def test_the_package_has_the_users_names(built: Path) -> None:
    package = open_package(built / "build" / "package")
    assert package.task == "custom"
    graph = package.graphs["model"]
    assert [(each.name, each.shape) for each in graph.inputs] == [("noisy", ("batch", 65, "frames"))]
    assert [(each.name, each.shape) for each in graph.outputs] == [("clean", ("batch", 65, "frames"))]
    weights = (package.folder / "model.onnx").stat().st_size
    assert package.cost.bytes < weights + 10_000, "what an app does not need is not in the size"
    report = json.loads((built / "build" / "report.json").read_text())
    assert {row["metric"] for row in report["accuracy"]} == {"cosine", "difference", "metric"}
    assert {row["shape"] for row in report["latency"]} == {"1 rows", "8 rows"}


def test_it_is_used_without_torch_at_any_length(built: Path) -> None:
    noisy = np.abs(np.random.default_rng(0).normal(size=(3, 65, 17))).astype(np.float32)
    np.savez(built / "in.npz", noisy=noisy)
    package, out = built / "build" / "package", built / "out.npz"
    code = (
        "import sys; from edgelr.cli import cli; from edgelr.terminal import run_command; "
        f"code = run_command(cli, ['run', '{package}', '{built / 'in.npz'}', '--out', '{out}']); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
    clean = read_arrays(out)["clean"]
    assert clean.shape == noisy.shape
    assert (clean <= noisy + 1e-6).all(), "a mask"


def test_a_package_is_validated_with_the_users_metric(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It brings no code: without the function, its gate is left open."""
    arguments = [
        "validate",
        str(built / "build" / "package"),
        "--device",
        "cpu-1t",
        "--seconds",
        "0.2",
        "--json",
    ]
    found = {}
    for name, more in {"without": [], "with": ["--metric", f"{built / FILE}:metric"]}.items():
        assert run_command(cli, [*arguments, *more]) == 0
        found[name] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "metric" not in {row["metric"] for row in found["without"]["accuracy"]}
    assert any(note.startswith("not evaluated: metric") for note in found["without"]["notes"])
    assert found["without"]["gates"] == []
    (gate,) = found["with"]["gates"]
    assert gate["gate"] == "metric drop to dense <= 1 (cpu-1t)"


def test_plan_says_what_is_left_dense_and_why(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = built / "noise-filter.yaml"
    assert run_command(cli, ["plan", str(path), "--out", str(built / "build"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    left = {entry["name"]: entry["reason"] for entry in document["skipped"]}
    assert left["over_time.weight_hh_l0"] == "GRU multiplies by it step by step, inside"


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"validate": {"gates": [{"metric": "metric", "min": 0}]}}, "validate.gates[0].metric"),
        ({"quantize": {"scheme": "fp16", "max_drop": {"metric": "metric", "value": 1}}}, "quantize.max_drop"),
        ({"compress": {"keep": {"quality": {"metric": "metric", "max_drop": 1}}}}, "compress.keep.quality"),
    ],
)
def test_a_metric_that_the_file_lacks_is_found_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: dict, key: str
) -> None:
    write_module(tmp_path / "net.py", change=("def metric", "def other"))
    task = {"type": "custom", "module": "net.py:build"}
    document = {
        "edgelr": 1,
        "name": "net",
        "task": task,
        "compress": {"keep": {"parameters": 0.5}},
        **section,
    }
    assert run_command(cli, ["plan", str(write_recipe(tmp_path, document))]) == 2
    error = capsys.readouterr().err
    assert key in error
    assert "net.py has no function 'metric': write it there" in error


@pytest.mark.parametrize(
    ("file", "code", "message"),
    [
        ({"result": "hidden +"}, 4, "net.py:14: invalid syntax"),
        ({"result": "(hidden, (hidden, hidden))"}, 4, "returns a tuple as 'output_1'"),
        ({"inputs": "x, mask"}, 2, "wants 'mask'"),
        (None, 2, "task.module: "),
    ],
)
def test_a_file_with_a_fault_ends_the_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: dict[str, str] | None, code: int, message: str
) -> None:
    if file is not None:
        write_module(tmp_path / "net.py", **file)
    document = {
        "edgelr": 1,
        "name": "net",
        "task": {"type": "custom", "module": "net.py:build"},
        "compress": {"keep": {"parameters": 0.5}},
    }
    path = write_recipe(tmp_path, document)
    assert run_command(cli, ["plan", str(path), "--out", str(tmp_path / "build")]) == code
    assert message in capsys.readouterr().err
