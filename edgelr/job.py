"""One build: its checked recipe, where things go, and how a stage runs through the store."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from edgelr.checks import auto_device, budget_device, check_extras, check_own_metric, takers
from edgelr.device.host import describe_host, host_fingerprint, require
from edgelr.device.load import get_device, load_devices
from edgelr.device.schema import Device
from edgelr.errors import UsageError
from edgelr.fixed_sizes import check_fixed_sizes
from edgelr.load.model_folder import find_model, fingerprint
from edgelr.outcome import Report, StageRow
from edgelr.progress import Progress
from edgelr.recipe.load import fault, load_recipe, recipe_hash
from edgelr.recipe.schema import Recipe, Validation
from edgelr.release import withdraw
from edgelr.store import Store, code_digest
from edgelr.verdict import Verdict
from edgelr.writing import writing

T = TypeVar("T")

# What each stage's result depends on, in this program's own code; and what all of them do.
_FLOWS = ("artifacts", "artifact_files", "examples", "structure", "typed")
_CODE: dict[str, tuple[str, ...]] = {
    "train": ("load", "tasks", "metrics", "runtime.catalog", "runtime.text"),
    "load": ("load", "own_code", "tasks.own_module", "tasks.task", "lowrank.checkpoint", "runtime"),
    "survey": ("survey", "lowrank", "tasks", "own_code", "runtime"),
    "kernels": (
        *("plan.kernels", "quantize", "runtime", "timing", "kinds"),
        "device",
    ),
    "quality": (
        *("budgets", "plan", "compress", "lowrank", "tasks", "own_code", "kinds", "metrics"),
        *("runtime", "export", "device"),
    ),
    "plan": ("plan", "lowrank.conv_cost", "timing.kernel_graph"),
    "compress": ("compress", "lowrank", "tasks", "own_code", "runtime"),
    "finetune": ("finetune", "lowrank", "tasks", "own_code", "kinds", "metrics", "runtime"),
    "export": ("export", "lowrank", "tasks", "own_code", "kinds", "metrics", "runtime", "device"),
    "quantize": (
        *("quantize", "kinds", "lowrank.rotate", "runtime", "metrics", "device", "own_code"),
        *("lowrank.graph_file", "timing"),
    ),
    "schemes": (
        *("quantize", "kinds", "lowrank.rotate", "runtime", "metrics", "device", "own_code"),
        *("lowrank.graph_file", "timing"),
    ),
    "ort": ("ort", "runtime"),
    "sessions": ("sessions", "session_rows", "kinds", "runtime", "timing", "device"),
    "validate": (
        *("validate", "verdict", "session_rows", "kinds", "runtime", "metrics", "timing", "device"),
        *("placement", "runners", "own_code"),
    ),
}


class ReachedEnd(Exception):  # noqa: N818 - not an error: what --until asked for
    """The stage named by ``--until`` is done."""


@dataclass(frozen=True, kw_only=True)
class Depends:
    """Everything that can change a stage's result, besides this program's own code.

    Attributes:
        inputs: Keys of the artifacts that go in.
        settings: What of the recipe goes in.
        libraries: Installed packages whose versions count.
    """

    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    libraries: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Made(Generic[T]):
    """An artifact and its key."""

    artifact: T
    key: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything about one build that the stages do not compute.

    Attributes:
        recipe: Checked.
        recipe_path: Where it was read from.
        out: Where package and report go.
        until: Last stage to run, or None.
        devices: The profiles to validate on.
        takes: The same by the variant that they take; None has those of the recipe's own package.
        timed_on: The profile that kernels are timed on; None without a budget of latency.
        chosen_on: The profile that quantization is chosen on; None unless its scheme is auto.
        model_folder: The dense model; nowhere while it is yet to be trained.
        model_fingerprint: Hash of its content.
        store: Where artifacts are kept.
        progress: Where to show what happens.
        rows: One entry for each stage that ran; grows.
        releases: Whether it is to end with a package; one that only plans leaves the last one where it is.
    """

    recipe: Recipe
    recipe_path: Path
    out: Path
    until: str | None
    devices: tuple[Device, ...]
    takes: Mapping[str | None, Sequence[Device]]
    timed_on: Device | None
    chosen_on: Device | None
    model_folder: Path
    model_fingerprint: str
    store: Store
    progress: Progress
    rows: list[StageRow] = field(default_factory=list)
    releases: bool = True

    @property
    def precision(self) -> str:
        """The candidate's: ``fp32`` or the quantization scheme."""
        return self.recipe.quantize.scheme if self.recipe.quantize else "fp32"

    @property
    def validation(self) -> Validation:
        """The recipe's section, with the devices of this build."""
        return self.recipe.validation.model_copy(
            update={"devices": tuple(device.name for device in self.devices)}
        )

    @property
    def recipe_hash(self) -> str:
        """Hash of the whole recipe."""
        return recipe_hash(self.recipe)

    @property
    def host(self) -> dict[str, str | int]:
        """The machine that figures are measured on."""
        return describe_host()

    @property
    def host_fingerprint(self) -> str:
        """Hash of what can change a measurement."""
        return host_fingerprint()

    def unfinished(self) -> Report:
        """The report of a build that was asked to stop early."""
        self.progress.note(f"stopped after {self.until}, as asked")
        stages = [vars(row) for row in self.rows]
        return Report(
            out=self.out,
            passed=False,
            package=None,
            document={"edgelr": 1, "until": self.until, "stages": stages},
        )

    def unevaluated(self, verdict: Verdict) -> list[str]:
        """Gates that could not be evaluated: a package with an open question is not released."""
        return [note for note in verdict.notes if note.startswith("not evaluated:")]

    def asked(self, verdict: Verdict) -> int:
        """How many gates were to be met: a gate is one a device, where it is measured on each."""
        return len(verdict.gates) + len(self.unevaluated(verdict))

    def tell_end(self, report: Report, verdict: Verdict, where: Path) -> None:
        """Close with where everything is."""
        gates = f"{sum(row.passed for row in verdict.gates)} of {self.asked(verdict)} passed"
        rows = [("package", str(where)), ("report", str(self.out / "report.md")), ("gates", gates)]
        self.progress.summary("passed" if report.passed else "rejected", rows)


def open_job(
    recipe_path: Path, out: Path | None, device_names: Sequence[str], until: str | None, progress: Progress
) -> Job:
    """Check everything that can be checked before the first stage.

    Args:
        recipe_path: The recipe's file.
        out: Output folder, or None for ``build/<name>``.
        device_names: Profiles in place of the recipe's; empty for those.
        until: Last stage, or None.
        progress: Where to show what happens.

    Raises:
        UsageError: A fault in the recipe, a profile or the arguments.
        MissingRequirementError: An extra or a provider is not installed.
        StorageError: The output folder cannot be written.
    """
    profiles = load_devices(recipe_path.parent / "devices")
    recipe = load_recipe(recipe_path, known_devices=profiles)
    devices = tuple(get_device(name, profiles) for name in (device_names or recipe.validation.devices))
    for device in devices:
        require(device)
    takes = takers(recipe, recipe_path, devices)
    timed_on = budget_device(recipe, recipe_path, profiles)
    chosen_on = auto_device(recipe, recipe_path, takes[None])
    check_extras(recipe.task)
    check_own_metric(recipe, recipe_path)
    try:
        trained = recipe.model.train is None
        model_folder = find_model(recipe.model, recipe_path.parent) if trained else Path()
    except UsageError as error:
        raise fault(recipe_path, "model.path", error.found.removeprefix("model.path: ")) from error
    check_fixed_sizes(recipe, recipe_path, devices, model_folder)
    folder = (out or Path("build") / recipe.name).resolve()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        progress.log_to(folder / "build.log")
    return Job(
        recipe=recipe,
        recipe_path=recipe_path,
        out=folder,
        until=until,
        devices=devices,
        takes=takes,
        timed_on=timed_on,
        chosen_on=chosen_on,
        model_folder=model_folder,
        model_fingerprint=fingerprint(model_folder) if trained else "",
        store=Store(folder.parent / ".store", progress),
        progress=progress,
    )


def run_stage(
    job: Job,
    stage: str,
    about: str,
    depends: Depends,
    *,
    make: Callable[[Path, Path], None],
    read: Callable[[Path], T],
) -> Made[T]:
    """Take a stage's artifact from the store, or make it.

    Args:
        job: The build.
        stage: Its name.
        about: What it does, a few words.
        depends: What its result depends on.
        make: ``make(folder, scratch)`` writes the artifact.
        read: Opens it.
    """

    def make_anew(folder: Path, scratch: Path) -> None:
        if job.releases:
            withdraw(job.out)  # what an earlier build left is not the result of this one
        make(folder, scratch)

    with job.progress.stage(stage, about):
        stored = job.store.get_or_build(
            stage,
            inputs=depends.inputs,
            settings=depends.settings,
            versions={**_versions(depends.libraries), "code": code_digest(*_CODE[stage], *_FLOWS)},
            build=make_anew,
            read=read,
        )
    job.rows.append(StageRow(stage=stage, key=stored.key, seconds=stored.seconds, reused=stored.reused))
    if stage == job.until:
        raise ReachedEnd
    return Made(artifact=stored.artifact, key=stored.key)


def _versions(libraries: Sequence[str]) -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in libraries},
    }


def _version(name: str) -> str:
    """Of a distribution, or of the one that carries an importable package of that name."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        carriers = importlib.metadata.packages_distributions().get(name, [])
        return ", ".join(f"{each} {importlib.metadata.version(each)}" for each in carriers) or "unknown"
