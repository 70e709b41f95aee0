"""Docstrings labeled with the module that they belong to: texts for a classifier, on every machine."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from edgelr.errors import DataError
from edgelr.examples import Labeled
from edgelr.load.python_docs import chunks, file_docstrings, is_prose, source_files, split_docstring, topic_of
from edgelr.load.rows import normalized
from edgelr.progress import Progress

_MASK = "…"


def collect(packages: Sequence[str], modules: int, progress: Progress) -> tuple[Labeled, ...]:
    """Collect the docstrings of the modules that have most of them, in a fixed order.

    In a text its module's name and its own are masked: they would give the answer away. A text is there once,
    and what a function or a class says is of one group, so that no split knows another's.

    Args:
        packages: ``stdlib`` for Python, or an installed package.
        modules: How many labels there are.
        progress: Where to show how far it is.

    Raises:
        MissingRequirementError: A package is not installed.
        DataError: They have fewer modules with docstrings.
    """
    texts: dict[str, Labeled] = {}
    for package in packages:
        files = source_files(package)
        with progress.bar(f"reading the docstrings of {package}", len(files)) as advance:
            for base, path in files:
                for each in _labeled(package, *file_docstrings(base, path)):
                    texts.setdefault(normalized(each.text), each)
                advance()
    counted = Counter(each.label for each in texts.values())
    if len(counted) < modules:
        raise DataError(
            f"task.data.modules: {modules} modules were asked for, and {', '.join(packages)} have "
            f"{len(counted)} with docstrings",
            f"ask for at most {len(counted)}, or name more packages",
        )
    names = sorted(counted, key=lambda label: (-counted[label], label))[:modules]
    distinct = {each.id: each for each in texts.values() if each.label in names}
    return tuple(distinct.values())


def _labeled(package: str, module: str, docstrings: Sequence[tuple[str, str]]) -> Iterator[Labeled]:
    label = topic_of(package, module)
    if any(part.startswith("_") for part in label.split(".")):
        return  # nobody looks for a private module
    for name, docstring in docstrings:
        summary, rest = split_docstring(docstring)
        first, *_ = chunks(f"{summary} {rest}") or [""]
        if is_prose(first):
            inside = name.removeprefix(module).lstrip(".").partition(".")[0]
            group = f"{module}.{inside}" if inside else module
            yield Labeled(
                id=name,
                group=group,
                text=mask(first, (*label.split("."), name.rpartition(".")[2])),
                label=label,
            )


def mask(text: str, names: Sequence[str]) -> str:
    """Put an ellipsis in place of every word that is one of some names, whatever its case.

    Args:
        text: A docstring.
        names: Such as ``json`` and ``JSONDecoder``.
    """
    words = "|".join(map(re.escape, names))
    return re.sub(rf"\b(?:{words})\b", _MASK, text, flags=re.IGNORECASE)
