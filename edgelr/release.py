"""Put what a build made where its user looks for it: ``package/``, or ``rejected/`` when a gate failed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgelr.artifact_files import write_json
from edgelr.artifacts import Package
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
    package: Package,
    verdict: Verdict,
    *,
    gates: Sequence[Mapping[str, Any]],
    recipe_hash: str,
    passed: bool,
    out: Path,
) -> Path:
    """Copy the candidate out of the store, with its accuracy, gates and recipe written into it.

    What was compiled for chips, ``qnn/`` in ``out``, becomes part of it.

    Args:
        package: The candidate, in the store.
        verdict: Its accuracy on the first device goes into the package.
        gates: The recipe's, so that the package can be validated anywhere.
        recipe_hash: Hash of the whole recipe.
        passed: Which of the two folders it goes to; the other one is removed.
        out: The build's output folder.

    Returns:
        Where the package is now.

    Raises:
        StorageError: ``out`` cannot be written.
    """
    rows = [row for row in verdict.accuracy if row.variant == "candidate"]
    first = rows[0].device if rows else ""
    with writing(out), tempfile.TemporaryDirectory(dir=out, prefix=".release-") as name:
        ready = Path(name) / PASSED
        ready.mkdir()
        copy_files(package, ready)
        if passed and (out / COMPILED).is_dir():
            shutil.move(out / COMPILED, ready / COMPILED)
        changed = replace(
            package,
            source={**package.source, "recipe": recipe_hash},
            gates=tuple(dict(gate) for gate in gates),
            accuracy={row.metric: row.value for row in rows if row.device == first},
        )
        seal_again(changed, ready)
        if package.session:
            write_json(ready / SESSION, package.session)
        target = out / (PASSED if passed else REJECTED)
        remove(out / (REJECTED if passed else PASSED))
        replace_folder(ready, target)
    return target


def withdraw(out: Path) -> None:
    """Remove what an earlier build left: something is built anew, so it is not the result of this recipe."""
    with writing(out):
        for name in OUTPUTS:
            remove(out / name)
