"""Datasets read from folders that are laid out like those of the hub."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgelr.errors import DataError
from edgelr.load.translations_dataset import read_dataset
from edgelr.progress import Progress
from edgelr.recipe.tasks import TranslationsDataset

PAIRS = [("one", "eins"), ("two", "zwei"), ("three", "drei")]


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def write(folder: Path, rows: list[Any], name: str = "train.jsonl") -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data" / name).write_text(lines, encoding="utf-8")
    return folder


def read(folder: Path, **settings: Any) -> list[tuple[str, str, str]]:
    data = {"source": "dataset", "id": folder.name, "languages": ("en", "de"), **settings}
    found = read_dataset(
        TranslationsDataset.model_validate(data),
        folder.parent,
        Progress(quiet=True),  # type: ignore[call-arg]
    )
    return [(each.id, each.source, each.target) for each in found]


EXPECTED = [(f"row-{number}", *pair) for number, pair in enumerate(PAIRS)]


def test_the_usual_column_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "numbers", [{"translation": {"de": de, "en": en}} for en, de in PAIRS])
    assert read(folder) == EXPECTED
    assert [source for _, source, _ in read(folder, languages=("de", "en"))] == ["eins", "zwei", "drei"]
    assert read(folder, rows=2) == EXPECTED[:2]


def test_languages_may_be_columns(tmp_path: Path) -> None:
    folder = write(tmp_path / "numbers", [{"en": en, "de": de, "more": 1} for en, de in PAIRS])
    assert read(folder) == EXPECTED


def test_another_split(tmp_path: Path) -> None:
    folder = write(tmp_path / "numbers", [{"en": en, "de": de} for en, de in PAIRS])
    write(folder, [{"en": "ten", "de": "zehn"}], "validation.jsonl")
    assert read(folder, split="validation") == [("row-0", "ten", "zehn")]


def test_rows_without_a_text_are_left_out_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[Any] = [{"en": en, "de": de} for en, de in PAIRS]
    folder = write(tmp_path / "numbers", [{"en": " ", "de": "x"}, {"en": "y", "de": None}, *rows])
    data = {"source": "dataset", "id": "numbers", "languages": ("en", "de")}
    found = read_dataset(TranslationsDataset.model_validate(data), folder.parent, Progress())
    assert [each.id for each in found] == ["row-2", "row-3", "row-4"], "a row keeps its number"
    assert "2 of 5 rows lack a text and are left out" in capsys.readouterr().err


def test_a_row_may_lack_the_column(tmp_path: Path) -> None:
    rows: list[Any] = [{"translation": {"de": de, "en": en}} for en, de in PAIRS]
    folder = write(tmp_path / "numbers", [*rows, {"translation": None}])
    assert read(folder) == EXPECTED


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "numbers", [{"en": "one", "de": "eins"}])
    (folder / "data" / "train.jsonl").write_text('{"en": "one", "de": ', encoding="utf-8")
    with pytest.raises(DataError, match="the dataset 'numbers' cannot be read"):
        read(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"languages": ("en", "fr")}, "numbers has no fr; it has de, en"),
        ({"split": "test"}, "the dataset 'numbers' cannot be read: Unknown split"),
        ({"languages": ("en", "en")}, r"the same text in every row \(3\)"),
        ({"id": "nobody/nothing"}, "the dataset 'nobody/nothing' cannot be read"),
    ],
    ids=["language", "split", "one language twice", "not there"],
)
def test_faults_are_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    folder = write(tmp_path / "numbers", [{"translation": {"de": de, "en": en}} for en, de in PAIRS])
    with pytest.raises(DataError, match=message):
        read(folder, **settings)
