"""What is measured for a budget, when, and what it depends on."""

import json
from pathlib import Path

import pytest

from edgelr import stages
from edgelr.budgets import measure_budget
from edgelr.job import Job, open_job
from edgelr.plan.kernels import KernelTimes
from edgelr.progress import Progress

SHARE = "{parameters: 0.6}"
FAST = "{latency: {device: cpu-1t, speedup: 1.5, tokens: 32}}"
GOOD = "{quality: {metric: cosine, max_drop: 0.1}}"
QUIET = Progress(quiet=True)


class Wanted(Exception):  # noqa: N818
    """Something would have to be made: nothing more is needed to know that."""


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kernels take no time here; how many were asked for, each time that they were."""
    asked: list[int] = []

    def measure(kernels, package, conditions, scratch, progress):
        asked.append(len(kernels))
        return KernelTimes(
            device=conditions.device.name,
            precision=package.precision,
            tokens=conditions.tokens,
            model_ms=10.0,
            kernels_ms=dict.fromkeys(kernels, 0.5),
        )

    monkeypatch.setattr("edgelr.plan.kernels.measure_kernels", measure)
    return asked


def change(recipe: Path, old: str, new: str) -> None:
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new))


def measure(home: Path, until: str | None = None) -> tuple[Job, object]:
    job = open_job(home / "tiny.yaml", home / "tiny", (), until, QUIET)
    source = stages.load(job)
    survey = stages.survey_sites(job, source)
    return job, measure_budget(job, source, survey)


def ran(job: Job) -> list[tuple[str, bool]]:
    return [(row.stage, row.reused) for row in job.rows]


def test_a_share_needs_no_measuring(rebuilt: Path) -> None:
    job, found = measure(rebuilt)
    assert found is None
    assert ran(job) == [("load", True), ("survey", True)]


def test_kernels_are_timed_with_the_dense_model_that_a_build_has_anyway(
    rebuilt: Path, measured: list[int]
) -> None:
    change(rebuilt / "tiny.yaml", SHARE, FAST)
    job, found = measure(rebuilt)
    assert ran(job)[2:] == [("export", True), ("quantize", True), ("kernels", False)]
    assert found.artifact.precision == "int8-dynamic"
    assert ran(measure(rebuilt)[0])[-1] == ("kernels", True)
    assert len(measured) == 1


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [
        ("speedup: 1.5", "speedup: 1.2", False),
        ("rank_multiple: 4", "rank_multiple: 4\n  allocate: uniform", True),
        ("tokens: 32}}", "tokens: 16}}", True),
        ("tokens: 32}}", "tokens: 32, seconds: 3}}", True),
        ("rank_multiple: 4", "rank_multiple: 8", True),
        ("rank_multiple: 4", "rank_multiple: 4\n  groups: [joint]", True),
        ("rank_multiple: 4", "rank_multiple: 4\n  factors: kronecker", False),
        ("quantize: {scheme: int8-dynamic, min_cosine: 0.5}", "", True),
        ("quantize: {scheme: int8-dynamic, min_cosine: 0.5}", "quantize: {scheme: int8-dynamic}", False),
    ],
)
def test_kernels_are_timed_again_when_they_can_be_others(
    rebuilt: Path, measured: list[int], old: str, new: str, again: bool
) -> None:
    change(rebuilt / "tiny.yaml", SHARE, FAST)
    measure(rebuilt)
    change(rebuilt / "tiny.yaml", old, new)
    job, _ = measure(rebuilt)
    assert ("kernels", not again) == ran(job)[-1]
    assert all(reused for stage, reused in ran(job) if stage != "kernels"), (
        "no budget changes the dense model"
    )


def test_another_host_is_timed_for_itself(
    rebuilt: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(rebuilt / "tiny.yaml", SHARE, FAST)
    measure(rebuilt)
    monkeypatch.setattr("edgelr.job.host_fingerprint", lambda: "another")
    assert ran(measure(rebuilt)[0])[-1] == ("kernels", False)
    assert len(measured) == 2


@pytest.mark.parametrize("until", ["export", "quantize"])
def test_until_means_the_candidate(rebuilt: Path, measured: list[int], until: str) -> None:
    change(rebuilt / "tiny.yaml", SHARE, FAST)
    assert ran(measure(rebuilt, until)[0])[-1] == ("kernels", False), "the dense model's was not the end"


def test_a_quality_is_searched_on_validation_data(rebuilt: Path) -> None:
    change(rebuilt / "tiny.yaml", SHARE, GOOD)
    job, found = measure(rebuilt)
    assert ran(job)[2:] == [("quality", False)]
    assert 0 < found.artifact.drop <= 0.1
    assert all(drop <= 0.1 or share < found.artifact.share for share, drop in found.artifact.probes)
    (folder,) = (path.parent for path in (rebuilt / ".store" / "quality").glob("*/share.json"))
    assert json.loads((folder / "share.json").read_text())["share"] == found.artifact.share


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [
        ("max_drop: 0.1", "max_drop: 0.2", True),
        ("metric: cosine, max_drop", "metric: overlap@10, max_drop", True),
        ("rank_multiple: 4", "rank_multiple: 4\n  refine: true", True),
        ("rank_multiple: 4", "rank_multiple: 8", True),
        ("steps: 6", "steps: 7", False),
        ("quantize: {scheme: int8-dynamic, min_cosine: 0.5}", "", False),
    ],
)
def test_a_share_is_searched_again_when_it_can_be_another(
    rebuilt: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, again: bool
) -> None:
    change(rebuilt / "tiny.yaml", SHARE, GOOD)
    measure(rebuilt)
    change(rebuilt / "tiny.yaml", old, new)

    def made(*_: object) -> float:
        raise Wanted

    monkeypatch.setattr("edgelr.store._build", made)
    if again:
        with pytest.raises(Wanted):
            measure(rebuilt)
    else:
        assert ran(measure(rebuilt)[0])[-1] == ("quality", True)
