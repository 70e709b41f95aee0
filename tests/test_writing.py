"""What is written is whole or absent, whatever happens on the way; the faults are real ones."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgelr.errors import DamagedArtifactError, DataError, StorageError
from edgelr.writing import atomic_write_text, plain_files, remove, replace_folder, writing

# Nobody, root included, can make a file there.
FORBIDDEN = Path("/sys") if Path("/sys").is_dir() else Path("/System")


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "store" / "ab12"
    (folder / "data").mkdir(parents=True)
    (folder / "model.onnx").write_text("graph")
    (folder / "data" / "examples.jsonl").write_text("{}\n")
    (folder / "manifest.json").write_text('{"seconds": 1.2}')
    return folder


# --- atomic_write_text ----------------------------------------------------------------------------


def test_text_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.md"
    atomic_write_text(path, "first é\n")
    atomic_write_text(path, "second\n")
    assert path.read_bytes() == b"second\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_over_the_size_limit_keeps_the_old_text(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    path.write_text("old")
    script = """
import resource, signal, sys
from pathlib import Path
from edgelr.errors import StorageError
from edgelr.writing import atomic_write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    atomic_write_text(Path(sys.argv[1]), "x" * 5000)
except StorageError as error:
    print(error)
"""
    result = python(script, path)
    assert f"cannot write to {tmp_path}: a file would be larger than is allowed here" in result.stdout
    assert contents(tmp_path) == {"report.md": "old"}


@pytest.mark.parametrize("event", ["open", "os.rename"])
def test_a_kill_while_writing_keeps_the_old_text(tmp_path: Path, event: str) -> None:
    path = tmp_path / "report.md"
    path.write_text("old")
    script = """
import os, signal, sys
from pathlib import Path
from edgelr.writing import atomic_write_text
def kill(event, arguments):
    if event == sys.argv[2] and ".tmp" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
atomic_write_text(Path(sys.argv[1]), "new")
"""
    assert python(script, path, event).returncode == -9
    assert path.read_text() == "old"


# --- writing --------------------------------------------------------------------------------------


def test_a_folder_that_nobody_may_write() -> None:
    with pytest.raises(StorageError, match="cannot write to") as caught:
        atomic_write_text(FORBIDDEN / "edgelr" / "report.md", "x")
    assert caught.value.exit_code == 13
    assert "choose another folder" in str(caught.value)


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "build").write_text("a file")
    for path in (tmp_path / "build" / "report.md", tmp_path / "build" / "deeper" / "report.md"):
        with pytest.raises(StorageError, match="a file is in the place of a folder"):
            atomic_write_text(path, "x")


FULL_DISK = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    Exception(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    ),  # safetensors' words
]


@pytest.mark.parametrize("error", FULL_DISK, ids=["disk", "quota", "safetensors"])
def test_a_full_disk_in_the_words_of_libraries(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(StorageError, match=r"is full|is used up"), writing(tmp_path):
        raise error


OTHER_FAULTS = [
    ValueError("a bug"),
    DataError("no examples"),
    KeyboardInterrupt(),
    FileNotFoundError(errno.ENOENT, "No such file", "/elsewhere/model"),
    PermissionError(errno.EACCES, "Permission denied", "/elsewhere/model"),
    OSError("8192 requested and 512 written"),
    RuntimeError("shapes differ"),
]


@pytest.mark.parametrize("error", OTHER_FAULTS, ids=lambda error: type(error).__name__)
def test_what_is_not_about_writing_passes_unchanged(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, writing(tmp_path):
        raise error
    assert caught.value is error


# --- replace_folder -------------------------------------------------------------------------------


def test_a_folder_is_copied_without_the_manifest_of_the_store(package: Path, tmp_path: Path) -> None:
    before = contents(package)
    replace_folder(package, tmp_path / "out" / "package")
    assert contents(tmp_path / "out" / "package") == {"model.onnx": "graph", "data/examples.jsonl": "{}\n"}
    assert contents(package) == before


def test_what_was_there_is_replaced_entirely(package: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "package"
    target.mkdir(parents=True)
    (target / "old.onnx").write_text("old")
    replace_folder(package, target)
    replace_folder(package, target)
    assert set(contents(target)) == {"model.onnx", "data/examples.jsonl"}
    assert {path.name for path in target.parent.iterdir()} == {"package", ".package.lock"}


def test_a_link_in_the_place_of_the_target_is_not_followed(package: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo").write_text("precious")
    (tmp_path / "package").symlink_to(mine)
    replace_folder(package, tmp_path / "package")
    assert contents(mine) == {"photo": "precious"}
    assert not (tmp_path / "package").is_symlink()


def test_a_source_with_a_link_changes_nothing(package: Path, tmp_path: Path) -> None:
    replace_folder(package, tmp_path / "package")
    (package / "LICENSE").symlink_to("/etc/hostname")
    with pytest.raises(DamagedArtifactError, match="LICENSE is a link"):
        replace_folder(package, tmp_path / "package")
    assert set(contents(tmp_path / "package")) == {"model.onnx", "data/examples.jsonl"}
    assert not (tmp_path / ".package.new").exists()


KILLED_AT = ["first-copy", "second-copy", "aside", "in", "removal"]


@pytest.mark.parametrize("moment", KILLED_AT)
def test_a_kill_leaves_the_old_folder_the_new_one_or_none(package: Path, tmp_path: Path, moment: str) -> None:
    target = tmp_path / "out" / "package"
    target.mkdir(parents=True)
    (target / "model.onnx").write_text("old")
    script = """
import os, signal, sys
from pathlib import Path
from edgelr.writing import replace_folder
moments = {"first-copy": ("shutil.copyfile", 1), "second-copy": ("shutil.copyfile", 2),
           "aside": ("os.rename", 1), "in": ("os.rename", 2), "removal": ("shutil.rmtree", 1)}
name, left = moments[sys.argv[3]]
def kill(event, arguments):
    global left
    if event == name:
        left -= 1
    if event == name and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
replace_folder(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    assert python(script, package, target, moment).returncode == -9
    old, new = {"model.onnx": "old"}, {"model.onnx": "graph", "data/examples.jsonl": "{}\n"}
    found = contents(target) if target.exists() else None
    assert found == {"first-copy": old, "second-copy": old, "aside": old, "in": None, "removal": new}[moment]
    replace_folder(package, target)
    assert contents(target) == new
    assert {path.name for path in target.parent.iterdir()} == {"package", ".package.lock"}


def test_copies_of_two_processes_at_once_do_not_mix(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from edgelr.writing import replace_folder
for _ in range(5):
    replace_folder(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    sources = [tmp_path / "a", tmp_path / "b"]
    for source in sources:
        source.mkdir()
        for number in range(10):
            (source / f"{source.name}{number}").write_text(source.name)
    both = [
        subprocess.Popen([sys.executable, "-c", script, source, tmp_path / "package"]) for source in sources
    ]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert contents(tmp_path / "package") in [contents(source) for source in sources]


# --- plain_files, remove ---------------------------------------------------------------------------


def test_files_come_in_the_order_of_their_names(package: Path) -> None:
    names = [path.relative_to(package).as_posix() for path in plain_files(package)]
    assert names == ["data/examples.jsonl", "manifest.json", "model.onnx"]


def test_a_pipe_is_not_a_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DamagedArtifactError, match="pipe is a link or not a plain file"):
        list(plain_files(tmp_path))


def test_remove_never_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    remove(tmp_path / "link")
    remove(tmp_path / "absent")
    assert contents(tmp_path) == {"mine/photo": "precious"}
