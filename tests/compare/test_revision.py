import subprocess
from pathlib import Path

import pytest

from edgelr.compare.revision import build_revision, names_revision, recipe_of
from edgelr.errors import UsageError
from edgelr.progress import Progress

QUIET = Progress(quiet=True)
# In the place of edgelr at that revision: says which file it was asked to build, and what is in it.
BUILDER = """
import pathlib, sys
_, recipe, _, out = sys.argv[1:]
text = pathlib.Path(recipe).read_text()
if text == "broken":
    sys.exit(7)
folder = pathlib.Path(out, "package")
folder.mkdir(parents=True)
(folder / "built").write_text(f"{recipe}: {text}")
"""


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    folder = tmp_path / "repository"
    (folder / "recipes").mkdir(parents=True)
    (folder / "edgelr.py").write_text(BUILDER, encoding="utf-8")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for text in ("old", "new"):
        (folder / "recipes" / "a.yaml").write_text(text, encoding="utf-8")
        git(folder, "add", "-A")
        git(folder, "commit", "--quiet", "-m", text)
    git(folder, "tag", "older", "HEAD~1")
    monkeypatch.chdir(folder)
    return folder


def test_a_side_is_a_revision_only_where_it_names_a_recipe(tmp_path, monkeypatch):
    assert names_revision("origin/main:recipes/a.yaml")
    assert names_revision("v1:a.yml")
    assert not names_revision("build/package")
    assert not names_revision("a.yaml")
    assert not names_revision(":a.yaml")
    assert not names_revision("C:model.onnx")
    monkeypatch.chdir(tmp_path)
    Path("odd:name.yaml").touch()
    assert not names_revision("odd:name.yaml"), "a file of that name comes first"


def test_a_recipe_is_built_as_it_was(repository):
    found = build_revision("older:recipes/a.yaml", QUIET)
    assert (found / "built").read_text() == "recipes/a.yaml: old"
    assert found.parent.parent == repository / "build"
    assert found.parent.name.startswith("a-")
    listed = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True).stdout
    assert len(listed.splitlines()) == 1, "what was checked out is gone"
    assert (repository / "recipes" / "a.yaml").read_text() == "new"
    assert recipe_of("older:recipes/a.yaml") == Path("recipes/a.yaml")
    assert recipe_of("older:recipes/gone.yaml") is None


def test_paths_are_of_the_current_folder(repository, monkeypatch):
    monkeypatch.chdir(repository / "recipes")
    assert (build_revision("main:a.yaml", QUIET) / "built").read_text() == "recipes/a.yaml: new"


def test_a_build_that_fails_ends_with_its_exit_code(repository):
    (repository / "recipes" / "a.yaml").write_text("broken", encoding="utf-8")
    git(repository, "commit", "--quiet", "-am", "broken")
    with pytest.raises(Exception, match="its build ended with exit code 7") as caught:
        build_revision("HEAD:recipes/a.yaml", QUIET)
    assert caught.value.exit_code == 7
    listed = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True).stdout
    assert len(listed.splitlines()) == 1


def test_what_is_not_there_is_named(repository, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"nowhere:recipes/a\.yaml: no such revision"):
        build_revision("nowhere:recipes/a.yaml", QUIET)
    with pytest.raises(UsageError, match=r"main has no file recipes/b\.yaml"):
        build_revision("main:recipes/b.yaml", QUIET)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="needs a git repository"):
        build_revision("main:recipes/a.yaml", QUIET)
