"""Python's own documentation as text: real English that is on every machine that has Python.

A docstring gives a pair: its summary line is the query, the rest is the passage that answers it. The topics
of ``pydoc`` (the language reference) give passages without a query. Sources are parsed, never imported, so
that collecting text runs no code of others.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgelr.errors import MissingRequirementError
from edgelr.examples import Example
from edgelr.progress import Progress

_SKIPPED_FOLDERS = {
    "test",
    "tests",
    "testing",
    "idlelib",
    "lib2to3",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "_vendor",
}
_LONGEST_PASSAGE = 600  # characters; about 128 tokens of such text
_DOCTEST = re.compile(r"^\s*(>>>|\.\.\.)")
_MARKUP = re.compile(r"^\s*([-=~^*]{3,}|\.\. \w[\w-]*::.*)\s*$")


def collect(packages: Sequence[str], progress: Progress) -> tuple[Example, ...]:
    """Collect pairs and passages, without duplicates, in a fixed order.

    Args:
        packages: ``stdlib`` for Python and its language reference, or an installed package.
        progress: Where to show how far it is.

    Raises:
        MissingRequirementError: A package is not installed.
    """
    examples: list[Example] = []
    for package in packages:
        files = source_files(package)
        with progress.bar(f"reading the documentation of {package}", len(files)) as advance:
            for root, path in files:
                examples.extend(_file_examples(package, root, path))
                advance()
        if package == "stdlib":
            examples.extend(_topics())
    return _distinct(examples)


def source_files(package: str) -> list[tuple[Path, Path]]:
    """The Python files of a package, each after the folder that its module's name starts below.

    Args:
        package: ``stdlib``, or an installed package.

    Raises:
        MissingRequirementError: It is not installed.
    """
    root = Path(sysconfig.get_path("stdlib")) if package == "stdlib" else _package_folder(package)
    # Module names start with the package; those of the standard library are names already.
    base = root if package == "stdlib" else root.parents[package.count(".")]
    files = (path for path in root.rglob("*.py") if not _SKIPPED_FOLDERS & set(path.relative_to(root).parts))
    return [(base, path) for path in sorted(files)]


def _package_folder(package: str) -> Path:
    top, *inner = package.split(".")
    spec = importlib.util.find_spec(top)  # of a dotted name it would import the parent
    places = [Path(place, *inner) for place in (spec.submodule_search_locations or ())] if spec else []
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise MissingRequirementError(
            f"task.data.packages: the Python package '{package}' is not installed here",
            f"install it (pip install {top}) or take it out of the recipe",
        )
    return found


def file_docstrings(base: Path, path: Path) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The dotted name of a file's module, and its public docstrings by their dotted names.

    Args:
        base: The folder that the module's name starts below.
        path: The file.
    """
    parts = path.relative_to(base).with_suffix("").parts
    module = ".".join(part for part in parts if part != "__init__")
    tree = _parsed(path)
    return module, () if tree is None else tuple(_docstrings(tree, module))


def topic_of(package: str, module: str) -> str:
    """The module that people would name: of the standard library the first part, of packages the first two.

    Args:
        package: ``stdlib``, or an installed package.
        module: Dotted name.
    """
    return ".".join(module.split(".")[: 1 if package == "stdlib" else 2])


def _file_examples(package: str, base: Path, path: Path) -> Iterator[Example]:
    module, docstrings = file_docstrings(base, path)
    group = topic_of(package, module)
    for name, docstring in docstrings:
        summary, rest = split_docstring(docstring)
        first, *further = chunks(rest) or [""]
        if _is_question(summary) and is_prose(first):
            yield Example(id=name, group=group, query=summary, passage=first)
        else:
            further = [f"{summary} {first}".strip(), *further]
        for number, text in enumerate(further, start=1):
            if is_prose(text):
                yield Example(id=f"{name}#{number}", group=group, passage=text)


def _parsed(path: Path) -> ast.Module | None:
    """The syntax tree; None for a template or a file of another Python: not documentation of this one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in the sources of others
            return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None


def _docstrings(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node, clean=False)
        if text:
            yield prefix, text.encode("utf-8", "replace").decode()  # half characters are not text
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            name = getattr(child, "name", "_")
            if not name.startswith("_"):
                yield from _docstrings(child, f"{prefix}.{name}")


def split_docstring(docstring: str) -> tuple[str, str]:
    """Split a docstring into its summary and the prose that follows, either of which may be empty.

    Doctests, rulers and directives are left out: an encoder of English learns nothing from them.
    """
    summary, _, rest = inspect.cleandoc(docstring).partition("\n\n")
    lines = [line for line in rest.splitlines() if not _DOCTEST.match(line) and not _MARKUP.match(line)]
    return " ".join(summary.split()), " ".join(" ".join(lines).split())


def chunks(text: str, longest: int = _LONGEST_PASSAGE) -> list[str]:
    """Cut ``text`` at word boundaries into passages of at most ``longest`` characters."""
    return textwrap.wrap(text, longest, break_on_hyphens=False)


def _is_question(text: str) -> bool:
    return len(text.split()) >= 3 and len(text) <= 200


def is_prose(text: str) -> bool:
    """Whether there is enough to read."""
    return len(text.split()) >= 8


def _topics() -> Iterator[Example]:
    from pydoc_data.topics import topics

    for topic in sorted(topics):
        for number, paragraph in enumerate(topics[topic].split("\n\n")):
            _, text = split_docstring(f"{topic}\n\n{paragraph}")
            for part, passage in enumerate(chunks(text)):
                if is_prose(passage):
                    yield Example(
                        id=f"pydoc:{topic}#{number}.{part}", group=f"pydoc:{topic}", passage=passage
                    )


def _distinct(examples: Sequence[Example]) -> tuple[Example, ...]:
    seen: set[str] = set()
    distinct: list[Example] = []
    for example in examples:
        texts = {text.casefold() for text in (example.query, example.passage, example.id) if text}
        if not texts & seen:
            distinct.append(example)
            seen |= texts
    return tuple(distinct)
