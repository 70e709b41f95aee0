"""The rules of the code, as tests: what CONTRIBUTING.md says is what holds."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from edgelr import errors

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "edgelr"
TESTS = ROOT / "tests"
STAGES = (
    "load",
    "survey",
    "plan",
    "compress",
    "finetune",
    "export",
    "quantize",
    "ort",
    "sessions",
    "validate",
    "report",
)
TORCH_HALF = ("load", "survey", "compress", "finetune", "export", "tasks", "lowrank", "pipeline", "api")
HEAVY = ("torch", "transformers")
NOT_FOR_HELP = (*HEAVY, "onnx", "onnxruntime", "numpy", "pydantic", "ruamel", "rich")
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "engine", "core", "misc"}
BROAD_CATCH = "terminal.py"  # the one place where a bug becomes a log file

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(PACKAGE / "_devices"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def short(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def length(function: Function) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# --- the test tree mirrors the package --------------------------------------------------------------


def needs_test(path: Path) -> bool:
    """All but package docstrings, ``python -m``, and modules without a single function (types only)."""
    return path.name not in {"__init__.py", "__main__.py"} and bool(functions(TREES[path]))


@pytest.mark.parametrize("path", [path for path in MODULES if needs_test(path)], ids=short)
def test_every_module_has_its_tests(path: Path) -> None:
    expected = TESTS / path.relative_to(PACKAGE).with_name(f"test_{path.name}")
    assert expected.is_file(), f"{expected.relative_to(ROOT)} is missing"


def test_every_test_file_has_its_module() -> None:
    aside = {TESTS / "test_repository.py"}
    homeless = [
        str(path.relative_to(ROOT))
        for path in TESTS.rglob("test_*.py")
        if path not in aside
        and path.relative_to(TESTS).parts[0] not in {"end_to_end", "golden", "scripts"}
        and not (PACKAGE / path.relative_to(TESTS)).with_name(path.name.removeprefix("test_")).is_file()
    ]
    assert homeless == []


def test_the_test_tree_has_no_packages() -> None:
    assert list(TESTS.rglob("__init__.py")) == []


# --- size and names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_a_module_has_at_most_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_functions_are_short() -> None:
    lengths = {
        f"{short(path)}:{function.lineno} {function.name}": length(function)
        for path, tree in TREES.items()
        for function in functions(tree)
    }
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) * 9 // 10] <= 35, "nine functions of ten have at most 35 lines"


def test_no_module_has_a_name_that_says_nothing() -> None:
    named = {path: set(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES}
    assert [short(path) for path, parts in named.items() if parts & FORBIDDEN_NAMES] == []


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = TREES[path]
    missing = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            members = node.body if isinstance(node, ast.ClassDef) else []
            public = [
                each for each in members if isinstance(each, Function) and not each.name.startswith("_")
            ]
            missing += [each.name for each in (node, *public) if not ast.get_docstring(each)]
    assert missing == []


# --- architecture -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in MODULES if short(path).split("/")[0] in STAGES], ids=short)
def test_a_stage_imports_no_other_stage(path: Path) -> None:
    own = short(path).split("/")[0]
    others = {f"edgelr.{stage}" for stage in STAGES if stage != own} | {"edgelr.pipeline", "edgelr.cli"}
    found = [name for name in imported(TREES[path]) if ".".join(name.split(".")[:2]) in others]
    assert found == []


# What a stage's folder imports for another stage's sake: that one has a key of its own.
OF_OTHER_STAGES = {
    "load": {"tasks.classifier_training", "tasks.recommendation_training"},  # of train
    "plan": {"device.schema", "timing.rounds"},  # of kernels
}
# What only says, checks or writes; of a recipe the settings are in the key.
IN_NO_KEY = ("errors", "progress", "recipe", "terminal", "writing")


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "report"])
def test_a_stages_key_knows_the_code_that_it_uses(stage: str) -> None:
    """Or a change of that code would leave a stale result in the store."""
    from edgelr.job import _CODE, _FLOWS

    known = (*_CODE[stage], *_FLOWS, *IN_NO_KEY)
    used = {
        module
        for path in MODULES
        if short(path).split("/")[0] == stage
        for module in used_modules(TREES[path])
        if not any(module == name or module.startswith(f"{name}.") for name in known)
    }
    assert used == OF_OTHER_STAGES.get(stage, set())


def used_modules(tree: ast.AST) -> set[str]:
    """Modules of this program that are imported to run, by their names below ``edgelr``."""
    types = [
        each
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for each in ast.walk(node)
    ]
    names = {short(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in MODULES}
    found = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node not in types
            and (node.module or "").startswith("edgelr.")
        ):
            module = str(node.module).removeprefix("edgelr.")
            whole = {f"{module}.{alias.name}" for alias in node.names}
            found |= (whole & names) or {module}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_one_function_in_its_stage_module(stage: str) -> None:
    tree = TREES[PACKAGE / stage / "stage.py"]
    assert any(isinstance(node, ast.FunctionDef) and not node.name.startswith("_") for node in tree.body)
    assert not any(isinstance(node, ast.ClassDef) and "Stage" in node.name for node in tree.body)


def test_the_light_half_stays_light() -> None:
    light = [path for path in MODULES if short(path).removesuffix(".py").split("/")[0] not in TORCH_HALF]
    names = ["edgelr." + short(path).removesuffix(".py").replace("/", ".") for path in light]
    names = [name.removesuffix(".__init__") for name in names if name != "edgelr.__main__"]
    assert {"edgelr.cli", "edgelr.plan.ranks", "edgelr.runtime.package", "edgelr.validate.stage"} <= set(
        names
    )
    roots = roots_after("; ".join(f"import {name}" for name in names))
    assert roots & set(HEAVY) == set()
    inside = [(short(path), name.split(".")[0]) for path in light for name in imported(TREES[path])]
    assert [pair for pair in inside if pair[1] in HEAVY] == [], "nor inside a function"


def test_help_is_instant() -> None:
    roots = roots_after("from edgelr.cli import cli; cli.main(['--help'], standalone_mode=False)")
    assert roots & set(NOT_FOR_HELP) == set()


def roots_after(code: str) -> set[str]:
    """Top-level modules a fresh interpreter has loaded after some code."""
    code += "\nimport json, sys; print(); print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_only_one_place_catches_everything() -> None:
    found = [
        short(path)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and caught(node) & {"", "Exception", "BaseException"}
    ]
    assert found == [BROAD_CATCH]


def caught(handler: ast.ExceptHandler) -> set[str]:
    """Names a handler catches; "" for a bare except."""
    if handler.type is None:
        return {""}
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {kind.id for kind in kinds if isinstance(kind, ast.Name)}


# --- documents and data -----------------------------------------------------------------------------


def test_exit_codes_are_those_of_the_readme() -> None:
    kinds = errors.EdgelrError.__subclasses__()
    meanings = {0: "done, gates passed", 1: "a bug: the traceback is in a named log file"}
    meanings |= {kind.exit_code: kind.meaning for kind in kinds}
    assert len(meanings) == len(kinds) + 2, "two errors share an exit code"
    assert readme_exit_codes() == meanings


def readme_exit_codes() -> dict[int, str]:
    """The README's table of exit codes; it may have several pairs of columns side by side."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| exit | meaning |"))
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found |= {int(code): meaning for code, meaning in zip(cells[::2], cells[1::2], strict=True) if code}
    return found


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (ROOT / target).exists()] == []


YAML_FILES = [path for folder in ("recipes", "devices") for path in sorted((ROOT / folder).rglob("*.y*ml"))]


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_yaml_parses(path: Path) -> None:
    document = YAML(typ="safe").load(path)
    assert document["edgelr"] == 1
    assert document["name"] == path.stem


def test_recipes_are_valid() -> None:
    from edgelr.recipe.load import load_recipe

    recipes = [path for path in YAML_FILES if path.parent == ROOT / "recipes"]
    assert [load_recipe(path).name for path in recipes] == [path.stem for path in recipes] != []


SHELL_FILES = [
    *(f"scripts/{name}" for name in ("environment", "quickstart", "test", "check", "fix", "latency_check")),
    *(f"scripts/prepare_{name}" for name in ("arm64", "web")),
    ".ci/run",
]


@pytest.mark.parametrize("name", SHELL_FILES)
def test_shell_files_parse(name: str) -> None:
    done = subprocess.run(["bash", "-n", ROOT / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert name == "scripts/environment" or os.access(ROOT / name, os.X_OK)


def test_every_pin_is_of_a_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    odd = [line for line in lines if not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    assert odd == []
    assert "torch==2.13.0" in lines
