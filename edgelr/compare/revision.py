"""A recipe as it is at a git revision, ``main:recipes/docs-search.yaml``, built into a package.

The revision is checked out into a temporary folder and built there, by the code that is there if the
repository is edgelr's own, else by the edgelr that is installed. What is built stays in the store, so that it
is quick the second time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgelr.errors import EdgelrError, MissingRequirementError, UsageError
from edgelr.progress import Progress

_RECIPES = (".yaml", ".yml")


def names_revision(text: str) -> bool:
    """Whether a side is named as ``REVISION:RECIPE``, as git itself names a file of a revision."""
    revision, colon, file = text.partition(":")
    return bool(revision and colon) and file.endswith(_RECIPES) and not Path(text).exists()


def recipe_of(text: str) -> Path | None:
    """The recipe that a ``REVISION:RECIPE`` names, as it is here now; None where it is no longer here."""
    path = Path(text.partition(":")[2])
    return path if path.is_file() else None


def build_revision(text: str, progress: Progress) -> Path:
    """Build a recipe as it is at a revision.

    Args:
        text: ``REVISION:RECIPE``; the path is relative to the current folder.
        progress: Where to tell.

    Returns:
        The package, ``build/<recipe>-<commit>/package`` at the top of the repository.

    Raises:
        UsageError: There is no such repository, revision or recipe.
        MissingRequirementError: There is no git.
        EdgelrError: The build failed, with its exit code.
    """
    revision, _, file = text.partition(":")
    top = Path(_git("rev-parse", "--show-toplevel"))
    commit = _git(
        "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", fault=f"{text}: no such revision"
    )
    recipe = (Path(_git("rev-parse", "--show-prefix")) / file).as_posix()
    _git("cat-file", "-e", f"{commit}:{recipe}", fault=f"{text}: {revision} has no file {recipe}")
    out = top / "build" / f"{Path(recipe).stem}-{commit[:12]}"
    progress.note(f"building {recipe} as of {revision} ({commit[:12]}) into {out}")
    with _checked_out(commit) as folder:
        command = [sys.executable, "-m", "edgelr", "build", recipe, "--out", str(out)]
        code = subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False).returncode
    if code:
        kinds = {kind.exit_code: kind for kind in EdgelrError.__subclasses__()}
        raise kinds.get(code, UsageError)(f"{text}: its build ended with exit code {code}", "see above")
    return out / "package"


@contextmanager
def _checked_out(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="edgelr-") as scratch:
        folder = Path(scratch) / "revision"
        _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            yield folder
        finally:
            _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str, fault: str = "this needs a git repository") -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingRequirementError(
            "git is not installed", "give a package in place of a revision"
        ) from error
    if done.returncode:
        raise UsageError(
            fault, done.stderr.strip() or "see git log; a shallow clone has only its last commit"
        )
    return done.stdout.strip()
