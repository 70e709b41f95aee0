"""One class a way to fail, one exit code a class."""

import pytest

from edgelr import errors

KINDS = errors.EdgelrError.__subclasses__()


def test_exit_codes_are_unique_and_not_those_of_success_or_a_bug() -> None:
    codes = [kind.exit_code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert not {0, 1} & set(codes)
    assert all(1 < code < 126 or code == 130 for code in codes), (
        "126 to 129 and above 130 are the shell's own"
    )


def test_the_documented_codes_stay() -> None:
    assert {kind.exit_code: kind.__name__ for kind in KINDS} == {
        2: "UsageError",
        3: "MissingRequirementError",
        4: "UnsupportedModelError",
        5: "DataError",
        6: "DivergedError",
        7: "ExportError",
        8: "QuantizeError",
        9: "GateError",
        10: "LatencyRegressionError",
        11: "InconclusiveError",
        12: "DamagedArtifactError",
        13: "StorageError",
        130: "InterruptedBuildError",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_says_what_was_found_and_what_to_do(kind: type[errors.EdgelrError]) -> None:
    error = kind("recipe.yaml:3: no such key", "did you mean 'name'?")
    assert str(error) == "recipe.yaml:3: no such key\n  did you mean 'name'?"
    assert (error.found, error.hint) == ("recipe.yaml:3: no such key", "did you mean 'name'?")
    assert kind.meaning


def test_a_hint_may_be_left_out() -> None:
    error = errors.DataError("no example was found")
    assert str(error) == "no example was found"
    assert error.hint is None


def test_a_damaged_file_is_built_again_where_nothing_better_is_known() -> None:
    error = errors.DamagedArtifactError("package.json is cut off")
    assert str(error) == "package.json is cut off\n  get it again, or delete it and build it again"
