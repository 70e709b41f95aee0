import io
import sys

import pytest

from edgelr.errors import DataError, UsageError
from edgelr.text_inputs import read_texts


def given(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_a_dash_reads_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "wait some seconds\n\n  \r\ncompile a caf\xe9\n".encode("latin-1"))
    expected = ["copy a file", "wait some seconds", "compile a caf\ufffd"]
    assert read_texts(["copy a file", "-"]) == expected


def test_no_input_and_empty_input_say_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="there is no input"):
        read_texts([])
    given(monkeypatch, b"\n")
    with pytest.raises(DataError, match="standard input holds no text"):
        read_texts(["-"])
