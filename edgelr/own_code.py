"""A user's own functions, ``FILE.py:FUNCTION``: the only code that edgelr runs and did not bring.

It runs only where a recipe or a command line names it. Whatever goes wrong in it is said with file and line.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from edgelr.errors import EdgelrError, UnsupportedModelError, UsageError


def own_function(place: str) -> Callable[..., Any]:
    """Import a file and take a function out of it.

    Args:
        place: ``FILE.py:FUNCTION``.

    Raises:
        UsageError: There is no such file, or nothing of that name that can be called is in it.
        UnsupportedModelError: The file has a fault, which is shown with its line.
    """
    file, _, name = place.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"{path} does not exist", "give FILE.py:FUNCTION")
    function = getattr(_import(path), name, None)
    if not callable(function):
        raise UsageError(f"{path} has no function '{name}'", f"write it there: def {name}(...)")
    checked: Callable[..., Any] = function
    return checked


def _import(path: Path) -> ModuleType:
    """The module of a file; imported once, and again after it was changed."""
    content = path.read_bytes()
    # A name of its own for each content: dataclasses and pickles look their module up.
    name = f"edgelr_own_{hashlib.sha256(str(path.resolve()).encode() + content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with running(path):
            # Not by the loader: it knows Python's compiled copy by size and whole seconds, and would run that
            # in place of a file that was changed within a second.
            exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)
    except EdgelrError:
        del sys.modules[name]
        raise
    return module


class running:  # noqa: N801 - a context, used like a function
    """While code of a user's file runs: its exceptions become an error that names the line.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say what went wrong.

        Raises:
            UnsupportedModelError: In place of any exception but those that edgelr or Ctrl-C raised.
        """
        if not isinstance(error, Exception) or isinstance(error, EdgelrError):
            return
        if isinstance(error, SyntaxError):
            line = f": {error.text.strip()}" if error.text else ""
            raise UnsupportedModelError(
                f"{error.filename}:{error.lineno}: {error.msg}{line}", "correct that line"
            ) from error
        frames = traceback.extract_tb(trace)
        own = [frame for frame in frames if Path(frame.filename).resolve() == self._path.resolve()]
        where = f"{self._path}:{own[-1].lineno}" if own else str(self._path)
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise UnsupportedModelError(f"{where}: {said}", "correct the file") from error


def own_value(path: Path, name: str) -> Any:  # noqa: ANN401 - whatever the user wrote
    """A value of a user's file; None where it has none of that name.

    Args:
        path: The file.
        name: At its top level.

    Raises:
        UnsupportedModelError: The file has a fault, which is shown with its line.
    """
    return getattr(_import(path), name, None)


def defines(path: Path, name: str) -> bool:
    """Whether a file gives a name a value, by a definition, an assignment or an import; it is not run for it.

    Args:
        path: The file.
        name: At its top level.

    Raises:
        UnsupportedModelError: The file has a fault, which is shown with its line.
    """
    with running(path):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return any(name in _named(node) for node in tree.body)


def _named(node: ast.stmt) -> set[str]:
    """Names that a statement gives a value."""
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name for alias in node.names}
        case ast.Assign() | ast.AnnAssign():
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
        case _:
            return set()
