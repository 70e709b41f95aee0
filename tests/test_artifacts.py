from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from edgelr.artifacts import Cost, Plan, Source
from edgelr.examples import Example, write_examples
from edgelr.verdict import LatencyRow


def test_a_source_reads_its_splits_in_their_order(tmp_path):
    (tmp_path / "data").mkdir()
    examples = [Example(id=str(n), group="g", query="how", passage=f"so {n}") for n in (3, 1, 2)]
    write_examples(tmp_path / "data" / "test.jsonl", examples)
    source = Source(
        folder=tmp_path, model_folder=tmp_path, fingerprint="f", title="t", license=None, counts={"test": 3}
    )
    assert source.examples("test", Example) == tuple(examples)


def test_an_artifact_cannot_be_changed():
    cost = Cost(parameters=1, bytes=4, macs=1)
    plan = Plan(
        folder=Path(),
        sites=(),
        reductions=(),
        dense=cost,
        candidate=cost,
        kept_share=1.0,
        predicted_loss=0.0,
    )
    assert plan.curve == ()
    with pytest.raises(FrozenInstanceError):
        plan.kept_share = 0.5


def test_a_row_shows_only_what_its_task_has():
    row = LatencyRow(
        variant="candidate",
        device="cpu-1t",
        evidence="run",
        shape="1 x 16 tokens",
        p50_ms=1.0,
        p90_ms=2.0,
        p99_ms=3.0,
        runs=10,
        peak_bytes=0,
        threads=1,
    )
    speed = {"tokens_per_s": 80.0, "first_token_ms": 12.5}
    heard = {"rtf": 0.01, "features_ms": 1.0, "encoder_ms": 2.0, "decoder_ms": 3.0}
    own = {name: value for name, value in vars(row).items() if name not in speed | heard}
    assert row.figures() == own
    for more in (speed, heard):
        assert replace(row, **more).figures() == {**own, **more}
