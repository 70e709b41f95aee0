import shutil
from pathlib import Path

import pytest

from edgelr import pipeline, stages
from edgelr.job import open_job
from edgelr.progress import Progress


def test_a_changed_budget_reuses_what_it_does_not_change(rebuilt):
    recipe = rebuilt / "tiny.yaml"
    recipe.write_text(recipe.read_text().replace("parameters: 0.6", "parameters: 0.7"))
    job = open_job(recipe, rebuilt / "tiny", (), None, Progress(quiet=True))
    source = stages.load(job)
    stages.plan_ranks(job, stages.survey_sites(job, source))
    assert [(row.stage, row.reused) for row in job.rows] == [
        ("load", True),
        ("survey", True),
        ("plan", False),
    ]


class Wanted(Exception):  # noqa: N818
    """Something would have to be made: nothing more is needed to know that."""


def first_made(recipe: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], str | None]:
    """The stages that are reused, and the first one that is not; nothing is made."""

    def build(*_: object) -> float:
        raise Wanted

    monkeypatch.setattr("edgelr.store._build", build)
    progress = Progress(quiet=True)
    reused: list[str] = []
    monkeypatch.setattr(progress, "reused", reused.append)
    started: list[str] = []
    show = progress.stage
    monkeypatch.setattr(
        progress, "stage", lambda name, about="": (started.append(name), show(name, about))[1]
    )
    try:
        pipeline.build(recipe, home / "tiny", progress=progress)
    except Wanted:
        return reused, started[-1]
    return reused, None


BEFORE = {
    "load": 0,
    "survey": 1,
    "plan": 2,
    "compress": 3,
    "finetune": 4,
    "export": 5,
    "quantize": 6,
    "sessions": 9,
    "validate": 9,  # after the two stages of the baselines
}
CHANGES = [
    ("name: tiny", "name: tiny\n# a comment", None),
    ("name: tiny", "name: tiny\nseed: 1", "load"),
    ("max_tokens: 32", "max_tokens: 24", "load"),
    ("test: 20", "test: 19", "load"),
    ("sensitivity_examples: 10", "sensitivity_examples: 9", "survey"),
    ("parameters: 0.6", "parameters: 0.7", "plan"),
    ("rank_multiple: 4", "rank_multiple: 8", "plan"),
    ("rank_multiple: 4", "groups: [joint]\n  rank_multiple: 4", "plan"),
    ("rank_multiple: 4", "allocate: gradient\n  rank_multiple: 4", "plan"),
    ("rank_multiple: 4", "factors: plain\n  rank_multiple: 4", "survey"),
    ("rank_multiple: 4", "exclude: ['*.dense']\n  rank_multiple: 4", "survey"),
    ("sensitivity_examples: 10", "sensitivity_examples: 10, sensitivity_points: 2", "survey"),
    ("rank_multiple: 4", "refine: true\n  rank_multiple: 4", "compress"),
    ("steps: 6", "steps: 7", "finetune"),
    ("batch: 8", "task_loss: 0.5, batch: 8", "finetune"),
    ("quantize:", "export: {opset: 18}\nquantize:", "export"),
    ("quantize:", "export: {pivot: true}\nquantize:", "plan"),
    ("name: tiny", "name: other", "export"),
    ("min_cosine: 0.5", "min_cosine: 0.4", "quantize"),
    ("min: 0.1", "min: 0.2", "validate"),
    ("tokens: [8, 16]", "tokens: [8]", "validate"),
    ("tokens: [8, 16]", "session_seconds: 0.1\n  tokens: [8, 16]", "sessions"),
]


@pytest.mark.parametrize(("old", "new", "stage"), CHANGES)
def test_a_change_makes_anew_exactly_what_it_can_change(rebuilt, monkeypatch, old, new, stage):
    recipe = rebuilt / "tiny.yaml"
    assert old in recipe.read_text()
    recipe.write_text(recipe.read_text().replace(old, new, 1))
    reused, made = first_made(recipe, rebuilt, monkeypatch)
    assert made == stage
    assert len(reused) == (10 if stage is None else BEFORE[stage])


def test_other_data_and_another_license_of_the_model_are_noticed(
    rebuilt, tiny_model, pairs_file, monkeypatch
):
    recipe = rebuilt / "tiny.yaml"
    text = recipe.read_text()
    data = rebuilt / "pairs.jsonl"
    for content in (pairs_file.read_text(), pairs_file.read_text().replace("copy", "clone")):
        data.write_text(content)
        recipe.write_text(text.replace(str(pairs_file), str(data)))
        assert first_made(recipe, rebuilt, monkeypatch) == ([], "load")
    model = Path(shutil.copytree(tiny_model, rebuilt / "model"))
    recipe.write_text(text.replace(str(tiny_model), str(model)))
    keys = []
    for license_name in ("mit", "apache-2.0"):
        (model / "README.md").write_text(f"---\nlicense: {license_name}\n---\n")
        first_made(recipe, rebuilt, monkeypatch)
        keys = sorted(path.name for path in (rebuilt / ".store" / "load").glob("*.lock"))
    assert len(keys) == 5, "the first build, two data files and two licenses"
