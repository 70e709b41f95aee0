import pytest

from edgelr.artifact_files import read_json, read_plan, read_survey, write_json
from edgelr.artifacts import Cost
from edgelr.errors import DamagedArtifactError


def test_json_is_readable_and_the_same_every_time(tmp_path):
    write_json(tmp_path / "a.json", Cost(parameters=1, bytes=2, macs=3))
    assert read_json(tmp_path / "a.json") == {"parameters": 1, "bytes": 2, "macs": 3}
    before = (tmp_path / "a.json").read_bytes()
    write_json(tmp_path / "a.json", Cost(parameters=1, bytes=2, macs=3))
    assert (tmp_path / "a.json").read_bytes() == before


@pytest.mark.parametrize("content", [None, "{oops"])
def test_a_file_that_is_missing_or_no_json_is_damaged(tmp_path, content):
    if content is not None:
        (tmp_path / "plan.json").write_text(content)
    with pytest.raises(DamagedArtifactError, match=r"plan\.json"):
        read_plan(tmp_path)


def test_artifacts_of_a_build_read_back(built):
    survey = read_survey(next((built / ".store" / "survey").glob("*/manifest.json")).parent)
    plan = read_plan(next((built / ".store" / "plan").glob("*/manifest.json")).parent)
    assert [site.name for site in plan.sites] == [site.name for site in survey.sites]
