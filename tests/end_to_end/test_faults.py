"""What a user can do wrong, through the command line: exit code and message, never a traceback."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from edgelr.cli import cli
from edgelr.terminal import run_command


def fails(capsys, arguments: list[str]) -> tuple[int, str]:
    code = run_command(cli, arguments)
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    return code, shown


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("parameters: 0.6", "parametrs: 0.6", 2, "did you mean 'parameters'?"),
        ("parameters: 0.6", "parameters: half", 2, "compress.keep.parameters"),
        ("parameters: 0.6", "parameters: 1.6", 2, "compress.keep.parameters"),
        ("parameters: 0.6", "parameters: 0.6, macs: 0.5", 2, "exactly one budget"),
        ("parameters: 0.6", "parameters: 0.01", 2, "leaves no rank"),
        ("name: tiny", "name: [tiny", 2, "tiny.yaml:"),
        ("[cpu-1t]", "[cpu-2t]", 2, "cpu-2t"),
        ("metric: cosine", "metric: cosin", 2, "did you mean 'cosine'?"),
        ("train: 40", "train: 4000", 5, "train split"),
        ("steps: 6", "steps: 6, learning_rate: 2.0", 2, "finetune.learning_rate"),
    ],
)
def test_recipe_faults(tiny_recipe, tmp_path, capsys, old, new, code, message):
    text = tiny_recipe.read_text()
    assert old in text
    tiny_recipe.write_text(text.replace(old, new))
    found, shown = fails(capsys, ["plan", str(tiny_recipe), "--out", str(tmp_path / "out")])
    assert (found, message in shown) == (code, True), shown


def test_a_recipe_that_is_a_directory(tmp_path, capsys):
    code, shown = fails(capsys, ["plan", str(tmp_path)])
    assert code == 2
    assert str(tmp_path) in shown


@pytest.mark.parametrize("change", ["gone", "no weights", "nan"])
def test_model_faults(tiny_recipe, tiny_model, tmp_path, capsys, change):
    folder = tmp_path / "model"
    if change != "gone":
        shutil.copytree(tiny_model, folder)
    if change == "no weights":
        (folder / "model.safetensors").unlink()
    if change == "nan":
        tensors = load_file(folder / "model.safetensors")
        tensors["embeddings.LayerNorm.weight"][0] = float("nan")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tiny_recipe.write_text(tiny_recipe.read_text().replace(str(tiny_model), str(folder)))
    code, shown = fails(capsys, ["plan", str(tiny_recipe), "--out", str(tmp_path / "out")])
    words = {"gone": "does not exist", "no weights": "has no weights", "nan": "not finite"}
    assert code == (2 if change == "gone" else 4)
    assert words[change] in shown


def test_an_output_folder_that_cannot_be_made(tiny_recipe, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    code, shown = fails(capsys, ["plan", str(tiny_recipe), "--out", str(tmp_path / "file" / "out")])
    assert code == 13, shown


def test_a_flipped_bit_in_the_store_is_found_and_built_again(rebuilt, capsys):
    path = next((rebuilt / ".store" / "plan").glob("*/plan.json"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    package = rebuilt / "tiny" / "package" / "package.json"
    before = package.read_bytes()
    code, shown = fails(capsys, ["build", str(rebuilt / "tiny.yaml"), "--out", str(rebuilt / "tiny")])
    assert code == 0, shown
    assert "set aside" in shown
    assert package.read_bytes() == before


def test_a_package_whose_file_was_changed_is_refused(rebuilt, capsys):
    path = rebuilt / "tiny" / "package" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    code, shown = fails(capsys, ["run", str(rebuilt / "tiny" / "package"), "copy a file"])
    assert code == 12
    assert "model.onnx" in shown


def start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgelr", "build", str(recipe), "--out", str(out)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "CI": "1"})


def wait_for_checkpoint(store: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not list(store.glob("finetune/*.scratch/checkpoint.pt")):
        assert time.monotonic() < end, "no checkpoint was written"
        time.sleep(0.02)


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_build_stopped_while_tuning_resumes_to_the_same_package(rebuilt, kind, code):
    """Steps enough that it is still tuning when it is stopped; the reference is not interrupted."""
    recipe = rebuilt / "tiny.yaml"
    recipe.write_text(recipe.read_text().replace("steps: 6", "steps: 150, patience: 100"))
    process = start(recipe, rebuilt / "tiny")
    wait_for_checkpoint(rebuilt / ".store")
    process.send_signal(kind)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == code, shown
    assert "Traceback" not in shown
    assert not (rebuilt / "tiny" / "package").exists()
    resumed = start(recipe, rebuilt / "tiny")
    _, shown = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, shown
    assert "resuming after step" in shown
    weights = [
        path.read_bytes() for path in sorted((rebuilt / ".store" / "finetune").glob("*/weights.safetensors"))
    ]
    assert len(weights) == 2  # the six steps of before, and these
