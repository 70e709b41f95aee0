"""What a user can do wrong, through the command line: exit code and message, never a traceback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
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


def wait_for_checkpoint(store: Path, seconds: float = 300) -> None:  # of a machine that does other work
    end = time.monotonic() + seconds
    while not list(store.glob("finetune/*.scratch/checkpoint.pt")):
        assert time.monotonic() < end, "no checkpoint was written"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("kind", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow)]
)
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


# --- what a stranger's or a damaged file may hold --------------------------------------------------


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_a_checkpoint_that_does_not_fit_its_configuration(tiny_recipe, tiny_model, tmp_path, capsys, change):
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    if change == "missing":
        del tensors[name]
    else:
        tensors["encoder.layer.7.output.dense.weight"] = tensors[name].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tiny_recipe.write_text(tiny_recipe.read_text().replace(str(tiny_model), str(folder)))
    code, shown = fails(capsys, ["plan", str(tiny_recipe), "--out", str(tmp_path / "out")])
    assert code == 4, shown
    assert f"1 tensors of the checkpoint are {change}: encoder.layer." in shown


def test_a_pickled_checkpoint_is_never_executed(tiny_recipe, tiny_model, tmp_path, capsys):
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings.LayerNorm.weight": Payload(tmp_path / "executed")}, folder / "pytorch_model.bin")
    tiny_recipe.write_text(tiny_recipe.read_text().replace(str(tiny_model), str(folder)))
    code, shown = fails(capsys, ["plan", str(tiny_recipe), "--out", str(tmp_path / "out")])
    assert code == 4, shown
    assert "cannot be loaded as an encoder" in shown
    assert not (tmp_path / "executed").exists()


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname"])
def test_a_package_that_names_a_file_outside_its_folder(rebuilt, capsys, name):
    package = rebuilt / "tiny" / "package"
    (package.parent / "secret.txt").write_text("precious")
    document = json.loads((package / "package.json").read_text())
    document["files"][name] = "0" * 64
    (package / "package.json").write_text(json.dumps(document))
    code, shown = fails(capsys, ["run", str(package), "copy a file"])
    assert code == 12, shown
    assert f"names a file outside its folder, or itself: {name}" in shown


def test_an_empty_data_set(tiny_recipe, pairs_file, tmp_path, capsys):
    (tmp_path / "empty.jsonl").write_text("")
    tiny_recipe.write_text(tiny_recipe.read_text().replace(str(pairs_file), "empty.jsonl"))
    code, shown = fails(capsys, ["plan", str(tiny_recipe), "--out", str(tmp_path / "out")])
    assert (code, "empty.jsonl is empty" in shown) == (5, True), shown


def test_a_provider_that_is_not_installed(tiny_recipe, tmp_path, capsys):
    (tmp_path / "devices").mkdir()
    text = (Path(__file__).parents[2] / "devices" / "cpu-1t.yaml").read_text()
    profile = text.replace("name: cpu-1t", "name: phone").replace(
        "CPUExecutionProvider", "OpenVINOExecutionProvider"
    )
    (tmp_path / "devices" / "phone.yaml").write_text(profile)
    arguments = ["build", str(tiny_recipe), "--device", "phone", "--out", str(tmp_path / "out")]
    code, shown = fails(capsys, arguments)
    assert (code, "OpenVINOExecutionProvider" in shown) == (3, True), shown
    assert not (tmp_path / ".store").exists(), "found before anything is made"


def test_a_truncated_artifact_is_set_aside_and_the_package_is_the_same(rebuilt, built, capsys):
    (path,) = (rebuilt / ".store" / "finetune").glob("*/weights.safetensors")
    path.write_bytes(path.read_bytes()[:-1000])
    code, shown = fails(capsys, ["build", str(rebuilt / "tiny.yaml"), "--out", str(rebuilt / "tiny")])
    assert code == 0, shown
    assert "warning" in shown
    assert "set aside as" in shown
    assert (
        path.read_bytes() == next((built / ".store" / "finetune").glob("*/weights.safetensors")).read_bytes()
    )
    assert contents(rebuilt / "tiny" / "package") == contents(built / "tiny" / "package")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- disks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "message"), [("ro", "read-only"), ("size=400k", "the disk is full")])
def test_a_disk_that_cannot_be_written(tiny_recipe, tmp_path, options, message):
    """A file system of its own, in a mount namespace: root, too, has to obey it."""
    place = tmp_path / "place"
    place.mkdir()
    mount = 'mount -t tmpfs -o "$1" edgelr "$2" && shift 2 && exec "$@"'
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh", options, str(place)]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode != 0:
        # Mounts are forbidden here: a folder nobody may write, and a limit on the size of files.
        inside = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh"] if "size" in options else []
        place, message = (
            (place, "larger than is allowed") if "size" in options else (Path("/sys/edgelr"), "cannot write")
        )
    command = [sys.executable, "-m", "edgelr", "build", str(tiny_recipe), "--until", "compress", "--out"]
    done = subprocess.run(
        [*inside, *command, str(place / "tiny")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 13, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


# --- kills -----------------------------------------------------------------------------------------

# A real build that is killed at the n-th event of a kind on a path.
KILLED = """
import os, signal, sys
kind, part, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
def kill(event, arguments):
    global left
    if event == kind and part in str(arguments[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
from edgelr.cli import main
main(sys.argv[4:])
"""


def killed(rebuilt: Path, kind: str, part: str, times: int) -> None:
    build = ["build", str(rebuilt / "tiny.yaml"), "--out", str(rebuilt / "tiny")]
    command = [sys.executable, "-c", KILLED, kind, part, str(times), *build]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("stage", "kind", "part", "times", "note"),
    [
        ("finetune", "os.rename", "checkpoint.pt.tmp", 2, "resuming after step 2"),
        pytest.param("export", "open", "model.onnx", 1, "", marks=pytest.mark.slow),
        ("load", "os.rename", ".tmp", 2, ""),
    ],
    ids=["finetune", "export", "store"],
)
def test_a_kill_costs_at_most_the_running_stage(rebuilt, built, capsys, stage, kind, part, times, note):
    """Against the same build, never interrupted: the same bytes, in the store and out."""
    for path in (rebuilt / ".store" / stage).glob("*/manifest.json"):
        shutil.rmtree(path.parent)
    killed(rebuilt, kind, part, times)
    assert not (rebuilt / "tiny" / "package").exists()
    code, shown = fails(capsys, ["build", str(rebuilt / "tiny.yaml"), "--out", str(rebuilt / "tiny")])
    assert code == 0, shown
    assert note in shown
    assert contents(rebuilt / "tiny" / "package") == contents(built / "tiny" / "package")
    for path in (built / ".store" / stage).glob("*/manifest.json"):
        twin = rebuilt / ".store" / stage / path.parent.name
        for file in path.parent.glob("*.*"):
            assert file.name == "manifest.json" or (twin / file.name).read_bytes() == file.read_bytes()
    left = [path for path in (rebuilt / ".store").rglob("*") if path.name.endswith((".tmp", ".scratch"))]
    assert left == []


def test_two_builds_of_the_same_recipe_at_once(rebuilt, built):
    shutil.rmtree(rebuilt / "tiny")
    for stage in ("load", "finetune", "quantize"):
        shutil.rmtree(rebuilt / ".store" / stage)
    both = [start(rebuilt / "tiny.yaml", rebuilt / "tiny") for _ in range(2)]
    shown = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], shown
    assert contents(rebuilt / "tiny" / "package") == contents(built / "tiny" / "package")
