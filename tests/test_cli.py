"""The command line as a user meets it: arguments, help, exit codes, JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from edgelr import __version__
from edgelr.cli import BLOCKS, SCHEMES, STAGES, cli
from edgelr.recipe.quantize import Quantize, Scheme
from edgelr.terminal import run_command

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run_line(*arguments: str) -> tuple[int, str, str]:
        code = run_command(cli, arguments)
        return (code, *capsys.readouterr())

    return run_line


def document(out: str) -> dict[str, Any]:
    """The only line that --json leaves on stdout."""
    (line,) = out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_with_an_example_and_json(name: str, run: Run) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert "--json" in out
    example = out.split("Example:\n")[1]
    assert example.startswith(f"    edgelr {name}")


def test_the_commands_are_those_of_the_design(run: Run) -> None:
    own = {"build", "plan", "run", "validate", "compare", "quantize", "devices", "show", "schema", "init"}
    assert set(cli.commands) == own | {"baseline", "trend"}
    out = run("--help")[1]
    assert "_EDGELR_COMPLETE=bash_source" in out
    assert all(name in out for name in cli.commands)


def test_the_schemes_are_those_of_a_recipe() -> None:
    assert get_args(Scheme) == SCHEMES
    assert get_args(Quantize.model_fields["block_size"].annotation) == tuple(map(int, BLOCKS))


def test_version(run: Run) -> None:
    assert run("--version")[1] == f"edgelr, version {__version__}\n"


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgelr", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"edgelr, version {__version__}\n"


@pytest.mark.parametrize("words", ["", "bu", "build --until qu", "validate --device cpu-1"])
def test_the_shell_completes(words: str) -> None:
    line = f"edgelr {words}"
    environment = {
        "_EDGELR_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
    }
    command = [sys.executable, "-m", "edgelr"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    expected = {"": "plain,plan", "bu": "plain,build", "build --until qu": "plain,quantize"}
    assert expected.get(words, "plain,cpu-1t") in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("biuld",), "No such command 'biuld'"),
        (("build",), "Missing argument 'RECIPE'"),
        (("build", "r.yaml", "--until", "tomorrow"), "is not one of"),
        (("build", "r.yaml", "--jsn"), "No such option"),
        (("validate", "p"), "Missing option '--device'"),
        (("run", "p", "text", "--top", "0"), "0 is not in the range x>=1"),
        (("show",), "Missing argument 'PATH'"),
    ],
)
def test_a_usage_error_is_exit_2(arguments: tuple[str, ...], words: str, run: Run) -> None:
    code, out, err = run(*arguments, "--json")
    assert code == 2
    assert words in err
    assert document(out)["error"]["exit"] == 2


def test_no_command_shows_the_help(run: Run) -> None:
    code, _, err = run()
    assert code == 2
    assert "Commands:" in err


@pytest.mark.parametrize("command", ["build", "plan"])
def test_a_recipe_that_is_not_there_is_exit_2(command: str, run: Run) -> None:
    code, out, err = run(command, "nowhere.yaml", "--json")
    assert code == 2
    assert "nowhere.yaml" in err
    assert "nowhere.yaml" in document(out)["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [("run", "nowhere", "text"), ("validate", "nowhere", "--device", "cpu-1t"), ("show", "nowhere")],
)
def test_a_path_that_is_not_there_is_exit_2(arguments: tuple[str, ...], run: Run) -> None:
    code, out, err = run(*arguments, "--json")
    assert code == 2
    assert "nowhere" in err
    assert document(out)["error"]["exit"] == 2


def test_init_writes_a_recipe_that_is_valid_and_never_overwrites(run: Run) -> None:
    code, out, _ = run("init", "My Search.yaml", "--json")
    assert (code, document(out)) == (0, {"recipe": "My Search.yaml"})
    assert run("show", "My Search.yaml")[0] == 0
    before = Path("My Search.yaml").read_bytes()
    code, _, err = run("init", "My Search.yaml")
    assert code == 2
    assert "exists already" in err
    assert Path("My Search.yaml").read_bytes() == before


def test_init_says_what_comes_next(run: Run) -> None:
    assert run("init")[1] == "wrote recipe.yaml; next: edgelr plan recipe.yaml\n"


def test_schema_is_json_for_people_and_programs(run: Run) -> None:
    pretty = json.loads(run("schema")[1])
    assert pretty == document(run("schema", "--json")[1])
    assert pretty["$schema"].startswith("https://json-schema.org/")
    assert "compress" in pretty["properties"]


def test_devices(run: Run) -> None:
    code, out, err = run("devices", "--json")
    assert code == 0
    assert "cpu-1t" in {row["name"] for row in document(out)["devices"]}
    assert "cpu-1t" in err, "the table for people"


def test_until_knows_the_stages_of_the_pipeline() -> None:
    parameter = next(each for each in cli.commands["build"].params if each.name == "until")
    assert isinstance(parameter.type, click.Choice)
    assert tuple(parameter.type.choices) == STAGES
    package = Path(__file__).parent.parent / "edgelr"
    assert all((package / stage / "stage.py").is_file() for stage in STAGES)
