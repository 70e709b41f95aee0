"""Running and validating a package as an app would."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgelr.artifacts import Package
from edgelr.cli import cli
from edgelr.errors import DamagedArtifactError, UnsupportedModelError, UsageError
from edgelr.terminal import run_command
from edgelr.use import answer, check
from edgelr.validate.stage import validate as measure
from edgelr.verdict import Verdict

ROOT = Path(__file__).parent.parent
MakePackage = Callable[..., Package]


@pytest.fixture
def package(make_package: MakePackage) -> Path:
    return make_package().folder


def set_gates(folder: Path, *gates: dict[str, Any]) -> Path:
    """Give a package other gates; ``package.json`` is the one file that has no hash."""
    path = folder / "package.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, "gates": gates}), encoding="utf-8")
    return folder


def validate(*arguments: str | Path) -> int:
    line = ["validate", *map(str, arguments), "--device", "cpu-1t", "--seconds", "0.1", "--json"]
    return run_command(cli, line)


def test_an_unknown_device_names_those_known(package: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown device 'cpu-1'.*\n.*cpu-1t"):
        answer(package, ["copy"], top=1, vectors=False, device="cpu-1")


def test_a_users_own_profile_is_named_by_its_file(package: Path, tmp_path: Path) -> None:
    text = (ROOT / "devices" / "cpu-1t.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text.replace("name: cpu-1t", "name: mine"), encoding="utf-8")
    document = answer(package, ["copy"], top=1, vectors=True, device=str(tmp_path / "mine.yaml"))
    assert len(document["vectors"]) == 1


def test_another_task_is_not_guessed(package: Path, reseal: MakePackage) -> None:
    reseal(package, task="speech")
    with pytest.raises(UnsupportedModelError, match="the task 'speech' is unknown"):
        answer(package, ["copy"], top=1, vectors=False, device="cpu-1t")


@pytest.mark.parametrize("option", [{"beam": 4}, {"max_tokens": 3}, {"file": Path("x")}])
def test_options_of_another_task_name_the_package_and_its_task(package: Path, option: dict[str, Any]) -> None:
    name = "--" + next(iter(option)).replace("_", "-")
    words = rf"{name} is not for .*package, a package for sentence-embedding\n.*--top, --vectors"
    with pytest.raises(UsageError, match=words):
        answer(package, ["copy"], device="cpu-1t", **option)


def test_options_that_are_not_given_are_of_no_task(package: Path) -> None:
    found = answer(package, ["copy"], device="cpu-1t", file=None, beam=None, top=None, vectors=False)
    assert len(found["answers"][0]["matches"]) == 3


def test_a_changed_package_is_not_used(package: Path) -> None:
    (package / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match=r"tokenizer\.json was changed"):
        answer(package, ["copy"], top=1, vectors=False, device="cpu-1t")


def test_validate_measures_and_checks_the_gates(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = {"size_mb": {"max_share_of": "dense-int8", "share": 0.5}}
    set_gates(package, {"metric": "cosine", "min": 0.9}, size)
    code = validate(package)
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert code == 0, err
    assert document["passed"] is True
    assert [row["gate"] for row in document["gates"]] == ["cosine >= 0.9 (cpu-1t)"]
    assert {row["variant"] for row in document["latency"]} == {"candidate"}
    assert any("dense-int8" in note for note in document["notes"]), "a gate that was not evaluated is said"
    assert "95 % interval" in err


def test_a_failed_gate_is_exit_9_and_keeps_the_figures(
    package: Path, make_package: MakePackage, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = set_gates(make_package("noisy", noise=3.0).folder, {"metric": "cosine", "min": 0.9})
    code = validate(noisy, "--baseline", package)
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (code, document["error"]["exit"]) == (9, 9)
    assert "1 of 1 gates failed: cosine >= 0.9 (cpu-1t)" in err
    assert {row["variant"] for row in document["accuracy"]} == {"candidate", "dense-fp32"}


def test_the_speed_of_writing_has_columns_only_where_it_was_measured(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*arguments: Any) -> Verdict:
        found = measure(*arguments)
        first, *others = found.latency
        return replace(found, latency=(replace(first, tokens_per_s=80.25, first_token_ms=12.5), *others))

    document = check(package, ["cpu-1t"], [package], seconds=0.1)
    before = capsys.readouterr().out
    monkeypatch.setattr("edgelr.validate.stage.validate", measured)
    changed = check(package, ["cpu-1t"], [package], seconds=0.1)
    after = capsys.readouterr().out
    assert "tokens/s" not in before
    assert re.search(r"p99 ms +tokens/s +first token ms +peak MB +evidence", after)
    assert re.search(r" 80\.25 +12\.50 +\d+\.\d +run", after)
    assert re.search(r" - +- +\d+\.\d +run", after), "a row without it"
    assert ["tokens_per_s" in row for row in document["latency"]] == [False, False]
    assert ["tokens_per_s" in row for row in changed["latency"]] == [True, False]


def test_two_baselines_of_one_kind_are_a_mistake(package: Path) -> None:
    with pytest.raises(UsageError, match="two baselines are dense-fp32"):
        check(package, ["cpu-1t"], [package, package], seconds=0.1)


def test_a_gate_that_no_recipe_has_is_a_damaged_package(package: Path) -> None:
    set_gates(package, {"metric": "cosine", "at_least": 1})
    with pytest.raises(DamagedArtifactError, match=r"package\.json: gates\.0"):
        check(package, ["cpu-1t"], [], seconds=0.1)


def test_a_package_runs_without_torch_and_pydantic(package: Path) -> None:
    code = f"""if True:
        import sys
        sys.modules["torch"] = sys.modules["transformers"] = sys.modules["pydantic"] = None
        from edgelr.cli import main
        main(["run", {str(package)!r}, "copy a file", "--json"])
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answers"][0]["matches"][0]["id"] == "shutil.copy"


def test_no_kind_of_package_needs_torch_or_pydantic_to_run() -> None:
    """Pydantic would take 15 MiB of the memory of ``edgelr run``."""
    code = """if True:
        import importlib, pkgutil, sys
        sys.modules["torch"] = sys.modules["transformers"] = sys.modules["pydantic"] = None
        import edgelr.kinds, edgelr.runtime, edgelr.device.load
        for part in (edgelr.kinds, edgelr.runtime):
            for module in pkgutil.iter_modules(part.__path__, part.__name__ + "."):
                importlib.import_module(module.name)
        for module in pkgutil.iter_modules(edgelr.__path__):
            if module.name.startswith("use"):
                importlib.import_module(f"edgelr.{module.name}")
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_device_gets_its_variant_of_a_package(
    varied: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "devices" / "cpu-1t.yaml").read_text(encoding="utf-8").replace("cpu-1t", "npu")
    profile = tmp_path / "npu.yaml"
    profile.write_text(re.sub(r"accepts:.*", "accepts: [a16w8]", text), encoding="utf-8")
    devices = (str(profile), "cpu-1t")
    variant, package = (
        answer(varied.folder, ["copy a file"], top=1, vectors=True, device=device) for device in devices
    )
    assert variant != package
    assert variant == answer(varied.folder / "npu", ["copy a file"], top=1, vectors=True, device=devices[0])
    set_gates(varied.folder, {"metric": "cosine", "min": 0.9})
    document = check(varied.folder, devices, [], seconds=0.1)
    assert [(row["device"], row["variant"]) for row in document["devices"]] == [
        ("npu", "npu"),
        ("cpu-1t", "candidate"),
    ]
    assert {(row["device"], row["variant"]) for row in document["accuracy"]} == {
        ("npu", "npu"),
        ("cpu-1t", "candidate"),
    }
    assert list(check(varied.folder, ["cpu-1t"], [], seconds=0.1)["sizes"]) == ["candidate"]
