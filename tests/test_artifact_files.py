import pytest

from edgelr.artifact_files import read_json, read_plan, read_survey, read_verdict, write_json
from edgelr.artifacts import Cost
from edgelr.errors import DamagedArtifactError
from edgelr.placement.fallback import FallbackRow
from edgelr.verdict import AccuracyRow, DeviceRow, GateRow, LatencyRow, PlacementRow, Verdict


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


def latency(**more):
    times = {"p50_ms": 1.0, "p90_ms": 2.0, "p99_ms": 3.0, "runs": 10, "peak_bytes": 5, "threads": 1}
    return LatencyRow(variant="candidate", device="d", evidence="run", shape="1 x 16 tokens", **times, **more)


def verdict(folder, *rows):
    return Verdict(
        folder=folder,
        passed=True,
        accuracy=(
            AccuracyRow(
                variant="candidate", device="d", metric="bleu", value=30.0, ci95=(29.0, 31.0), examples=9
            ),
        ),
        latency=rows,
        placement=(
            PlacementRow(
                variant="candidate", device="d", provider="p", nodes=3, share=1.0, evidence="static"
            ),
        ),
        devices=(
            DeviceRow(
                variant="candidate",
                device="d",
                title="D",
                evidence="run",
                scored=True,
                timed=False,
                placed=None,
                agreement="all",
            ),
        ),
        fallbacks=(
            FallbackRow(
                variant="candidate", device="d", node="n", operator="Erf", macs_share=None, reason="r"
            ),
        ),
        gates=(GateRow(gate="bleu >= 20 (d)", limit=20.0, value=30.0, passed=True),),
        sizes={"candidate": 9},
        notes=("bleu by sacrebleu: nrefs:1|case:mixed",),
    )


def test_a_verdict_reads_back_with_and_without_the_speed_of_writing(tmp_path):
    found = verdict(tmp_path, latency(), latency(tokens_per_s=80.5, first_token_ms=12.25))
    write_json(tmp_path / "verdict.json", found)
    assert read_verdict(tmp_path) == found


def test_a_verdict_of_before_there_was_a_speed_of_writing_is_still_read(tmp_path):
    found = verdict(tmp_path, latency())
    write_json(tmp_path / "verdict.json", found)
    document = read_json(tmp_path / "verdict.json")
    for row in document["latency"]:
        del row["tokens_per_s"], row["first_token_ms"]
    write_json(tmp_path / "verdict.json", document)
    assert read_verdict(tmp_path) == found
