import pytest

from edgelr.timing.spinning import SPIN_US, SPINNING, calmed


@pytest.mark.parametrize(
    ("given", "spins"),
    [
        ({}, "0"),
        ({SPINNING: "1"}, "0"),
        ({SPINNING: "1", SPIN_US: "100"}, "1"),
        ({SPINNING: "0", SPIN_US: "100"}, "0"),
        ({SPINNING: "1", SPIN_US: "1000000"}, "0"),
        ({SPINNING: "1", SPIN_US: "-1"}, "0"),
    ],
)
def test_threads_spin_only_where_that_ends(given: dict[str, str], spins: str) -> None:
    before = {**given, "mlas.other": "1"}
    assert calmed(before) == {**before, SPINNING: spins}
    assert before == {**given, "mlas.other": "1"}
