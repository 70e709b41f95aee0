from pathlib import Path

import pytest

from edgelr.errors import UsageError
from edgelr.recipe.compare import LIMITED, PARTS, Compare
from edgelr.recipe.load import load_recipe, recipe_hash


def with_section(path: Path, section: str) -> Path:
    path.write_text(path.read_text(encoding="utf-8") + f"compare: {section}\n", encoding="utf-8")
    return path


def test_everything_that_is_timed_or_scored_may_have_a_limit() -> None:
    assert {"p90", "first_call", "load", "memory", "bytes", "mrr@10", "bleu", "wer"} <= set(LIMITED)
    assert {part for parts in PARTS.values() for part in parts} <= set(LIMITED)
    assert "p50" not in LIMITED, "that is the tolerance"
    assert Compare(limits=dict.fromkeys(LIMITED, 0.1)).limits


def test_a_recipe_may_say_what_is_accepted(tiny_recipe: Path) -> None:
    before = load_recipe(tiny_recipe)
    after = load_recipe(with_section(tiny_recipe, "{tolerance: 0.02, limits: {memory: 0.1}}"))
    assert before.compare == Compare()
    assert (after.compare.tolerance, after.compare.limits) == (0.02, {"memory": 0.1})
    assert recipe_hash(after) == recipe_hash(before), "no result of a build depends on it"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{tolerance: 0}", r"compare\.tolerance: must be more than 0"),
        ("{tolerance: -0.05}", r"compare\.tolerance"),
        ("{tolerance: 1}", r"compare\.tolerance"),
        ("{budget_s: 0}", r"compare\.budget_s"),
        ("{limits: {speed: 0.1}}", r"compare\.limits: .*'speed' has no limit; known are p90"),
        ("{limits: {bytes: 0}}", r"compare\.limits"),
        ("{tolerence: 0.1}", r"compare\.tolerence: unknown key; did you mean 'tolerance'\?"),
    ],
)
def test_faults_have_their_line(tiny_recipe: Path, section: str, message: str) -> None:
    lines = len(tiny_recipe.read_text(encoding="utf-8").splitlines())
    with pytest.raises(UsageError, match=rf":{lines + 1}: {message}"):
        load_recipe(with_section(tiny_recipe, section))
