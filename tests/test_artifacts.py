from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from edgelr.artifacts import Cost, Plan, Source
from edgelr.examples import Example, write_examples


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
