from edgelr import stages
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
