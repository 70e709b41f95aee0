import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelr.errors import DamagedArtifactError
from edgelr.plan.quality import (
    FoundShare,
    probes_needed,
    read_found,
    shares_to_search,
    smallest_share,
    write_found,
)


@given(st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_the_share_found_holds_and_the_next_smaller_one_does_not(least: float, limit: float) -> None:
    """The drop is 0 from ``limit`` on, and falls up to there."""
    shares = shares_to_search(least)
    found = smallest_share(lambda share: max(0.0, limit - share), 0.0, least)
    assert found.share == min(share for share in shares if share >= min(limit, 1.0))
    assert found.drop == 0
    assert len(found.probes) <= probes_needed(least) <= 7


def test_candidates_are_the_least_and_whole_hundredths() -> None:
    assert shares_to_search(0.9731) == [0.9731, 0.98, 0.99, 1.0]
    assert shares_to_search(0.98) == [0.98, 0.99, 1.0]
    assert shares_to_search(1.0) == [1.0]


def test_what_was_probed_is_told_with_the_drop_at_the_share_found() -> None:
    found = smallest_share(lambda share: 1 - share, 0.305, 0.2)
    assert (found.share, found.drop) == (0.7, pytest.approx(0.3))
    assert dict(found.probes)[0.7] == found.drop
    assert found.probes[0][0] == 0.6, "the middle comes first"


def test_the_smallest_share_is_taken_where_it_holds() -> None:
    assert smallest_share(lambda _: 0.01, 0.05, 0.137).share == 0.137


@pytest.mark.parametrize("drop", [0.06, math.nan])
def test_where_nothing_holds_everything_stays_dense(drop: float) -> None:
    found = smallest_share(lambda _: drop, 0.05, 0.137)
    assert (found.share, found.drop) == (1.0, 0.0), "which needs no probe"
    assert 1.0 not in dict(found.probes)


def test_noise_never_gives_a_share_that_does_not_hold() -> None:
    drops = {share: 0.04 + 0.02 * (place % 2) for place, share in enumerate(shares_to_search(0.5))}
    found = smallest_share(drops.__getitem__, 0.05, 0.5)
    assert found.drop == drops[found.share] <= 0.05


def test_a_file_gives_back_the_same(tmp_path: Path) -> None:
    found = FoundShare(share=0.6, drop=0.04, probes=((0.5, 0.2), (0.6, 0.04)))
    write_found(found, tmp_path)
    assert read_found(tmp_path) == found


@pytest.mark.parametrize("change", [{"probes": [1]}, {"more": 1}, {"probes": None}])
def test_another_layout_is_damage(tmp_path: Path, change: dict[str, object]) -> None:
    write_found(FoundShare(share=0.6, drop=0.04, probes=()), tmp_path)
    path = tmp_path / "share.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DamagedArtifactError, match=r"share\.json does not have the layout"):
        read_found(tmp_path)
