from pathlib import Path

import pytest

from edgelr.errors import DataError
from edgelr.load.utterances_file import read_utterances


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with sounds beside it, in it and below it; what is in them does not matter here."""
    home = tmp_path / "home"
    for name in ("outside.wav", "home/a.wav", "home/b.wav", "home/wavs/c d.flac"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
    return home


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_jsonl_and_tsv_say_the_same(folder):
    line = '{"audio": "wavs/c d.flac", "text": "hello there", "group": "emma", "id": "i"}\n'
    one = read_utterances(write(folder, "a.jsonl", line))
    other = read_utterances(write(folder, "a.tsv", "wavs/c d.flac\thello there \temma\ti\n"))
    assert one == other
    assert one[0].audio == str(folder / "wavs" / "c d.flac")
    assert (one[0].text, one[0].group, one[0].id) == ("hello there", "emma", "i")


def test_paths_are_absolute_wherever_the_manifest_was_named_from(folder, monkeypatch):
    write(folder, "a.tsv", "a.wav\thello\n./b.wav\tbye\n")
    monkeypatch.chdir(folder.parent)
    found = read_utterances(Path("home/a.tsv"))
    assert [example.audio for example in found] == [str(folder / "a.wav"), str(folder / "b.wav")]


def test_rows_with_the_same_text_stay_together(folder):
    rows = read_utterances(write(folder, "a.tsv", "a.wav\tGood  day\nb.wav\tgood day\na.wav\tbye\n"))
    assert [row.group for row in rows] == ["good day", "good day", "bye"]
    assert [row.id for row in rows] == ["line-1", "line-2", "line-3"]
    assert [row.text for row in rows] == ["Good  day", "good day", "bye"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"audio": "a.wav"}\n', r"a\.jsonl:1: 'text' is missing or empty"),
        ("a.jsonl", '{"text": "t"}\n', r"a\.jsonl:1: 'audio' is missing or empty"),
        ("a.jsonl", '{"audio": "a.wav", "text": "t"}\n{"audio": "b.wav", "text": " "}\n', r":2: 'text' is"),
        (
            "a.jsonl",
            '{"path": "a.wav", "text": "t"}\n',
            "unknown field path; known are audio, text, group, id",
        ),
        ("a.jsonl", '{"audio": 1, "text": "t"}\n', r"a\.jsonl:1: expected an object of texts"),
        ("a.tsv", "a.wav\tt\na.wav\n", r"a\.tsv:2: expected 2 to 4 tab-separated columns \(audio, text"),
        ("a.tsv", "a.wav\tt\n\t t\n", r"a\.tsv:2: 'audio' is missing or empty"),
        ("a.tsv", "a.wav\tt\tg\ti\nb.wav\tu\tg\ti\n", r"a\.tsv:2: another row has the id 'i'"),
        ("a.tsv", "a.wav\tt\n\nno.wav\tu\n", r"a\.tsv:3: there is no file 'no\.wav' in .*home\n  paths of"),
        ("a.tsv", "wavs\tt\n", r"a\.tsv:1: there is no file 'wavs'"),
        ("a.tsv", "a\0.wav\tt\n", r"a\.tsv:1: there is no file"),
        ("a.tsv", f"{'a' * 5000}\tt\n", r"a\.tsv:1: there is no file"),
        ("a.tsv", "", r"a\.tsv is empty"),
        ("a.csv", "a.wav,t\n", r"a data file is \.jsonl or \.tsv"),
    ],
)
def test_faults_name_file_and_line(folder, name, text, message):
    with pytest.raises(DataError, match=message):
        read_utterances(write(folder, name, text))


@pytest.mark.parametrize(
    "name",
    [
        "../outside.wav",
        "wavs/../../outside.wav",
        "..\\outside.wav",
        "{root}/outside.wav",
        "C:\\a.wav",
        "\\a.wav",
    ],
)
def test_sounds_are_in_the_folder_of_the_manifest(folder, name):
    name = name.format(root=folder.parent)
    with pytest.raises(DataError, match=r"a\.tsv:2: '.*' is outside of the folder of this file\n  put the"):
        read_utterances(write(folder, "a.tsv", f"a.wav\tt\n{name}\tu\n"))


def test_a_link_that_leads_out_is_refused_and_one_within_is_not(folder):
    (folder / "within.wav").symlink_to(folder / "a.wav")
    (folder / "out.wav").symlink_to(folder.parent / "outside.wav")
    (folder / "self.wav").symlink_to(folder / "self.wav")
    (found,) = read_utterances(write(folder, "a.tsv", "within.wav\tt\n"))
    assert found.audio == str(folder / "within.wav")
    with pytest.raises(DataError, match=r"a\.tsv:1: 'out\.wav' is outside"):
        read_utterances(write(folder, "a.tsv", "out.wav\tt\n"))
    with pytest.raises(DataError, match=r"a\.tsv:1: there is no file 'self\.wav'"):
        read_utterances(write(folder, "a.tsv", "self.wav\tt\n"))


def test_the_folder_itself_may_be_a_link(folder):
    (folder.parent / "link").symlink_to(folder)
    write(folder, "a.tsv", "a.wav\tt\n")
    (found,) = read_utterances(folder.parent / "link" / "a.tsv")
    assert found.audio == str(folder.parent / "link" / "a.wav")
