"""Put what a build made where its user looks for it: ``package/``, or ``rejected/`` when a gate failed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgelr.artifact_files import write_json
from edgelr.artifacts import CANDIDATE, Package
from edgelr.runtime.package import COMPILED, SESSION
from edgelr.runtime.package_copy import copy_files, seal_again
from edgelr.verdict import Verdict
from edgelr.writing import remove, replace_folder, writing

PASSED, REJECTED = "package", "rejected"
OUTPUTS = (
    PASSED,
    REJECTED,
    "report.json",
    "report.md",
    "layers.svg",
    "latency.svg",
    "quantization.svg",
    COMPILED,
)


def release(
    packages: Mapping[str, Package],
    verdict: Verdict,
    *,
    gates: Sequence[Mapping[str, Any]],
    recipe_hash: str,
    passed: bool,
    out: Path,
) -> Path:
    """Copy the candidate out of the store, with its accuracy, gates and recipe written into it.

    Each variant is a folder in it, and sealed before it. What was compiled for chips, ``qnn/`` in ``out``,
    becomes part of the package that these chips take.

    Args:
        packages: By name, in the store: the candidate and its variants.
        verdict: Their accuracy on the first device goes into each.
        gates: The recipe's, so that the package can be validated anywhere.
        recipe_hash: Hash of the whole recipe.
        passed: Which of the two folders it goes to; the other one is removed.
        out: The build's output folder.

    Returns:
        Where the package is now.

    Raises:
        StorageError: ``out`` cannot be written.
    """
    variants = tuple(name for name in packages if name != CANDIDATE)
    with writing(out), tempfile.TemporaryDirectory(dir=out, prefix=".release-") as scratch:
        ready = Path(scratch) / PASSED
        for name in (*variants, CANDIDATE):
            package, folder = packages[name], ready if name == CANDIDATE else ready / name
            _copy(package, folder, out / COMPILED / name if passed else None)
            changed = replace(
                package,
                source={**package.source, "recipe": recipe_hash},
                gates=tuple(dict(gate) for gate in gates),
                accuracy=_accuracy(verdict, name),
            )
            seal_again(changed, folder, variants if name == CANDIDATE else ())
        target = out / (PASSED if passed else REJECTED)
        remove(out / (REJECTED if passed else PASSED))
        remove(out / COMPILED)
        replace_folder(ready, target)
    return target


def _copy(package: Package, folder: Path, compiled: Path | None) -> None:
    """All files of a package, and what goes into it besides."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_files(package, folder)
    if compiled is not None and compiled.is_dir():
        shutil.move(compiled, folder / COMPILED)
    if package.session:
        write_json(folder / SESSION, package.session)


def _accuracy(verdict: Verdict, name: str) -> dict[str, float]:
    """Every metric of a package on the first device that scored it."""
    rows = [row for row in verdict.accuracy if row.variant == name]
    return {row.metric: row.value for row in rows if row.device == rows[0].device}


def withdraw(out: Path) -> None:
    """Remove what an earlier build left: something is built anew, so it is not the result of this recipe."""
    with writing(out):
        for name in OUTPUTS:
            remove(out / name)
