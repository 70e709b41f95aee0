from edgelr.artifact_files import read_plan, read_survey
from edgelr.progress import Progress
from edgelr.report.plan import plan_document, print_plan


def artifacts(built):
    found = {
        stage: next((built / ".store" / stage).glob("*/manifest.json")).parent for stage in ("survey", "plan")
    }
    return read_plan(found["plan"]), read_survey(found["survey"])


def test_the_table_has_a_row_for_every_layer(built, capsys):
    plan, survey = artifacts(built)
    print_plan(plan, survey, Progress(plain=True))
    shown = capsys.readouterr().err
    for site in plan.sites:
        assert site.name in shown
    assert "left as it is" in shown


def test_the_document_says_the_same(built):
    plan, survey = artifacts(built)
    document = plan_document(plan, survey)
    assert document["kept_share"] == plan.kept_share <= 0.6
    assert len(document["layers"]) == len(plan.sites)
    assert document["skipped"]
