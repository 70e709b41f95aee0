import pytest
from pydantic import ValidationError

from edgelr.recipe.custom import Custom, with_own_model


def test_the_file_of_the_module_is_the_model() -> None:
    document = {"task": {"type": "custom", "module": "own/net.py:build"}}
    assert with_own_model(document) == {**document, "model": {"path": "own/net.py"}}
    assert "model" not in document, "what was read is not changed"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"task": 3},
        {"task": {"type": "translation"}},
        {"task": {"type": "custom"}},
        {"task": {"type": "custom", "module": "net.py:build"}, "model": {"path": "other.py"}},
    ],
)
def test_everything_else_stays_as_it_was_read(document: dict) -> None:
    assert with_own_model(document) is document


def test_a_module_is_a_file_and_a_function() -> None:
    assert Custom(type="custom", module="own/net.py:build").file == "own/net.py"
    for wrong in ("net.py", "net:build", "net.py:", "net.py:a.b"):
        with pytest.raises(ValidationError):
            Custom(type="custom", module=wrong)
