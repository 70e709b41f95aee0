"""A package compared with what a recipe builds at a git revision, from the command line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def repository(tiny_recipe: Path, tmp_path: Path) -> Path:
    """A user's own: one recipe, committed, and changed since."""
    folder = tmp_path / "mine"
    folder.mkdir()
    recipe = Path(shutil.copy(tiny_recipe, folder / "tiny.yaml"))
    identity = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
    for arguments in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "a recipe")):
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)
    changed = recipe.read_text(encoding="utf-8") + "compare: {tolerance: 0.25, budget_s: 1, tokens: 8}\n"
    recipe.write_text(changed, encoding="utf-8")
    return folder


@pytest.mark.slow  # builds in a process of its own
def test_a_package_is_compared_with_a_revision(repository: Path, built: Path) -> None:
    command = ["compare", "main:tiny.yaml", str(built / "tiny" / "package"), "--inconclusive-ok", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "edgelr", *command],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    base = Path(document["sides"]["base"]["path"])
    assert base.parent.parent == repository / "build"
    assert (base / "package.json").is_file()
    assert document["rows"][0]["limit"] == 0.25, "the recipe as it is here now"
    assert "note: base and candidate are the same bytes" in done.stderr
