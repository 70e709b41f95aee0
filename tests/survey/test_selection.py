import pytest

from edgelr.structure import LeftDense
from edgelr.survey.selection import nothing_left, ruled_out


@pytest.mark.parametrize(
    ("include", "exclude", "reason"),
    [
        (["*"], [], None),
        (["b.*"], [], "not in compress.include"),
        (["*"], ["c", "a.*"], "excluded by 'a.*'"),
    ],
)
def test_globs_are_of_whole_names(include, exclude, reason):
    assert ruled_out("a.b", include, exclude) == reason


def test_a_layer_that_a_glob_left_out_says_most():
    left = [LeftDense(name="table", reason="an embedding"), LeftDense(name="a", reason="excluded by 'a'")]
    error = nothing_left(left, ["*"], ["a"])
    assert error.exit_code == 4
    assert "'a' was left out: excluded by 'a'" in str(error)
    assert "no weight matrix at all" in str(nothing_left([], ["*"], []))
