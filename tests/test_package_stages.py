"""The stages of packages; what makes them anew is in ``test_stages.py``."""

import json

from edgelr import package_stages, pipeline, stages
from edgelr.job import open_job
from edgelr.progress import Progress


def test_without_time_for_it_no_session_is_tuned_and_the_store_knows_nothing(rebuilt):
    job = open_job(rebuilt / "tiny.yaml", rebuilt / "tiny", (), None, Progress(quiet=True))
    sessions = package_stages.tune_sessions(job, {})
    assert sessions.artifact.rows == ()
    assert not (rebuilt / ".store" / "sessions").exists()
    assert stages.load(job).artifact.counts["test"] == 20


def test_measured_settings_travel_in_the_package_and_are_told(rebuilt, monkeypatch):
    """On a machine where one rewrite costs a third of the time."""

    def measure(package, device, choices, lengths, *_):
        return {choice: [2.0 if choice else 3.0 for _ in lengths] for choice in choices}

    monkeypatch.setattr("edgelr.sessions.stage._measure", measure)
    recipe = rebuilt / "tiny.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace("tokens: [8, 16]", "session_seconds: 0.1\n  tokens: [8, 16]"))
    report = pipeline.build(recipe, rebuilt / "tiny", progress=Progress(quiet=True))
    settings = json.loads((report.package / "session.json").read_text())
    assert list(settings) == ["cpu-1t"]
    told = {row["variant"] for row in report.document["sessions"]}
    assert told == {"dense-fp32", "dense-int8", "candidate"}
    assert "## Session settings" in (report.out / "report.md").read_text()
