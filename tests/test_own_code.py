import sys
from pathlib import Path

import pytest

from edgelr.errors import DataError, UnsupportedModelError, UsageError
from edgelr.own_code import defines, own_function, running


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_function_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # a compiled copy is not to be taken for the file
    path = written(tmp_path / "own.py", "def twice(x):\n    return 2 * x\n")
    assert own_function(f"{path}:twice")(3) == 6
    assert own_function(f"{path}:twice") is own_function(f"{path}:twice"), "imported once"
    written(path, "def twice(x):\n    return 4 * x\n")
    assert own_function(f"{path}:twice")(3) == 12, "and again after a change"


def test_a_file_has_its_own_future_and_not_ours(tmp_path: Path) -> None:
    path = written(tmp_path / "own.py", "def twice(x: int):\n    return 2 * x\n")
    assert own_function(f"{path}:twice").__annotations__ == {"x": int}, "a class, not its name"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def build(:\n    pass\n", r"own.py:1: invalid syntax: def build\(:"),
        ("x = 1\nraise OSError('no disk')\n", "own.py:2: OSError: no disk"),
        ("import nothing_of_that_name\n", "own.py:1: ModuleNotFoundError: No module named"),
    ],
)
def test_a_file_with_a_fault_is_shown_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path / "own.py", text)
    for _ in range(2):  # nothing half imported is left behind
        with pytest.raises(UnsupportedModelError, match=message):
            own_function(f"{path}:build")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "own.py", "build = 3\n")
    with pytest.raises(UsageError, match="has no function 'build'"):
        own_function(f"{path}:build")
    with pytest.raises(UsageError, match="has no function 'other'"):
        own_function(f"{path}:other")
    with pytest.raises(UsageError, match=r"absent\.py does not exist"):
        own_function(f"{tmp_path / 'absent.py'}:build")


def test_what_edgelr_raises_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError), running(tmp_path):
        raise DataError("x")
    with pytest.raises(KeyboardInterrupt), running(tmp_path):
        raise KeyboardInterrupt
    with pytest.raises(UnsupportedModelError, match="ZeroDivisionError"), running(tmp_path / "own.py"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("def train(module): ...", True),
        ("from math import sqrt as train", True),
        ("train = print", True),
        ("train: object = print", True),
        ("def other(): ...", False),
        ("# train", False),
    ],
)
def test_a_name_may_come_from_anywhere(tmp_path, line, found):
    (tmp_path / "net.py").write_text(line)
    assert defines(tmp_path / "net.py", "train") is found
