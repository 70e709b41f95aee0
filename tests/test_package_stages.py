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


def test_onnx_runtimes_own_format_is_written_compared_and_told(rebuilt):
    recipe = rebuilt / "tiny.yaml"
    job = open_job(recipe, rebuilt / "tiny", (), None, Progress(quiet=True))
    assert package_stages.ort_format(job, "the same") == "the same"
    text = recipe.read_text()
    assert "export:" not in text
    recipe.write_text(text.replace("validate:", "export: {ort_format: true}\nvalidate:"))
    report = pipeline.build(recipe, rebuilt / "tiny", progress=Progress(quiet=True))
    stages_made = {row["stage"] for row in report.document["stages"] if not row["reused"]}
    assert stages_made == {"ort", "validate"}, "no graph is exported anew"
    assert (report.package / "ort" / "model.ort").is_file()
    assert report.document["ort_bytes"]["ort/model.ort"] > 0
    assert any(warning.startswith("ort/ computes") for warning in report.document["warnings"])
    assert "| `ort/model.ort` |" in (report.out / "report.md").read_text()


def test_a_variant_is_made_by_its_own_sections_for_a_device_that_takes_it(rebuilt, add_variant, monkeypatch):
    add_variant(rebuilt / "tiny.yaml")
    seen = []

    def export(job, source, tuned, macs):
        seen.append((tuned, job.recipe.export.operators))
        return "fp32"

    def quantize(job, package, source):
        seen.append((package, job.recipe.quantize.scheme))
        return "small"

    monkeypatch.setattr(package_stages, "export", export)
    monkeypatch.setattr(package_stages, "quantize", quantize)
    for devices, made in ((("cpu-1t", "phone"), {"npu": "small"}), (("cpu-1t",), {})):
        job = open_job(rebuilt / "tiny.yaml", rebuilt / "tiny", devices, None, Progress(quiet=True))
        assert package_stages.variants(job, "source", "tuned", 1) == made
    assert seen == [("tuned", "plain"), ("fp32", "a16w8")], "whatever the recipe's own are"
