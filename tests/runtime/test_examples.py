from pathlib import Path

import pytest

from edgelr.errors import DamagedArtifactError
from edgelr.examples import Example, write_examples
from edgelr.runtime.examples import folder_examples


def test_they_come_back_in_their_order(tmp_path: Path) -> None:
    written = (Example(id="b", group="g", passage="p", query="q"), Example(id="a", group="g", passage=""))
    write_examples(tmp_path / "examples.jsonl", written)
    assert folder_examples(tmp_path, Example) == written


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no examples"),
        (b"\xff\xfe", "cannot be read"),
        (b"{}\n", "examples.jsonl:1: not an example"),
        (b'{"id": "a", "group": "g", "passage": 5}\n', "examples.jsonl:1: .*not text"),
        (b'{"id": "a", "group": "g", "passage": "p", "query": 0}\n', "examples.jsonl:1: .*not text"),
    ],
)
def test_what_is_unusable_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "examples.jsonl").write_bytes(content)
    with pytest.raises(DamagedArtifactError, match=message):
        folder_examples(tmp_path, Example)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match=r"examples\.jsonl cannot be read"):
        folder_examples(tmp_path, Example)
