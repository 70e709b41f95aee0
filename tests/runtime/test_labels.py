from pathlib import Path

import pytest

from edgelr.errors import DamagedArtifactError, DataError
from edgelr.runtime.labels import label_rows, read_labels, write_labels


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_labels(tmp_path, ["müde", "wach"])
    assert read_labels(tmp_path) == ["müde", "wach"]


@pytest.mark.parametrize("text", ["{}", "[1]", "oops"])
def test_what_is_no_list_of_texts_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(DamagedArtifactError, match=r"labels\.json"):
        read_labels(tmp_path)


def test_labels_go_by_name_or_number() -> None:
    assert label_rows(["no", "yes", "0"], ["yes", "1", "0", "no"]) == [1, 1, 2, 0], "a name goes first"
    with pytest.raises(DataError, match="the label '7' is none of the model's: no, yes"):
        label_rows(["no", "yes"], ["yes", "7"])
