import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

soundfile = pytest.importorskip("soundfile")
soxr = pytest.importorskip("soxr")

from edgelr.errors import DataError, MissingRequirementError  # noqa: E402
from edgelr.runtime.audio import SAMPLE_RATE, audio_blocks, read_audio, seconds_of, write_flac  # noqa: E402

ROOT = Path(__file__).parent.parent.parent


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, pcm: np.ndarray, rate: int = SAMPLE_RATE, **settings: str) -> Path:
    soundfile.write(path, pcm, rate, **settings)
    return path


# --- what can be read ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_U8", 2**-7),
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_32", 2**-23),
        ("a.wav", "FLOAT", 0),
        ("a.wav", "DOUBLE", 0),
        ("a.wav", "ULAW", 0.02),
        ("a.flac", "PCM_16", 2**-15),
        ("a.aiff", "PCM_16", 2**-15),
        ("a.au", "PCM_16", 2**-15),
        ("a.ogg", "VORBIS", 0.05),
        ("a.wav.of.no.kind.that.is.known", "PCM_16", 2**-15),
    ],
)
def test_every_kind_of_sample_is_a_number_from_minus_one_to_one(tmp_path, name, subtype, error):
    pcm = tone(0.5)
    settings = {"format": "WAV"} if "known" in name else {}
    found = read_audio(write(tmp_path / name, pcm, subtype=subtype, **settings))
    assert found.dtype == np.float32
    assert found.shape == pcm.shape
    assert np.abs(found - pcm).max() <= error


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_other_rates_are_resampled(tmp_path, rate):
    found = read_audio(write(tmp_path / "a.wav", tone(1.0, rate), rate, subtype="FLOAT"))
    assert abs(len(found) - SAMPLE_RATE) <= 1
    middle = slice(2000, 14000)  # a tone that begins and ends at once has echoes there
    assert np.abs(found[middle] - tone(1.0)[middle]).max() < 1e-3


def test_a_stream_is_resampled_as_if_it_were_in_one_piece(tmp_path):
    pcm = np.random.default_rng(0).uniform(-0.5, 0.5, 44100 * 25).astype(np.float32)
    blocks = list(audio_blocks(write(tmp_path / "a.wav", pcm, 44100, subtype="FLOAT")))
    assert len(blocks) > 2, "or nothing is tested"
    assert min(map(len, blocks)) > 0
    whole = soxr.resample(pcm, 44100, SAMPLE_RATE)
    streamed = np.concatenate(blocks)
    assert streamed.shape == whole.shape
    assert np.abs(streamed - whole).max() < 1e-6


def test_blocks_of_another_rate(tmp_path):
    path = write(tmp_path / "a.wav", tone(1.0))
    assert abs(sum(map(len, audio_blocks(path, 8000))) - 8000) <= 1


@pytest.mark.parametrize("channels", [2, 6, 64])
def test_channels_are_averaged(tmp_path, channels):
    pcm = np.random.default_rng(0).uniform(-1, 1, (1000, channels)).astype(np.float32)
    found = read_audio(write(tmp_path / "a.wav", pcm, subtype="FLOAT"))
    assert np.allclose(found, pcm.mean(axis=1), atol=1e-6)


def test_clipping_is_no_error_and_what_is_louder_stays(tmp_path):
    pcm = 3 * tone(0.1)
    assert np.array_equal(read_audio(write(tmp_path / "a.wav", pcm, subtype="FLOAT")), pcm)
    assert np.abs(read_audio(write(tmp_path / "b.wav", pcm, subtype="PCM_16"))).max() == 1.0
    clipped = read_audio(write(tmp_path / "c.wav", pcm.clip(-1, 1), 44100, subtype="PCM_16"))
    assert np.isfinite(clipped).all()


@pytest.mark.parametrize("rate", [1, 8000, SAMPLE_RATE, 44100, 2_000_000_000])
@pytest.mark.parametrize("samples", [1, 2])
def test_one_sample_is_a_short_sound(tmp_path, rate, samples):
    path = write(tmp_path / "a.wav", np.full(samples, 0.25, np.float32), rate, subtype="FLOAT")
    found = read_audio(path)
    assert len(found) == max(1, round(samples * SAMPLE_RATE / rate))
    assert np.isfinite(found).all()
    assert seconds_of(path) == samples / rate


def test_memory_does_not_grow_with_the_length(tmp_path):
    """Twenty minutes of 8 kHz, more than a hundred blocks: some 80 MB if they were kept."""
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_U8") as file:
        for _ in range(20):
            file.write(tone(60.0, 8000))
    tracemalloc.start()
    seconds = sum(len(block) for block in audio_blocks(path)) / SAMPLE_RATE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds == seconds_of(path) == 1200
    assert peak < 8e6


def test_a_block_of_many_channels_is_short(tmp_path):
    path = write(tmp_path / "a.wav", np.zeros((20_000, 256), np.float32), subtype="PCM_U8")
    assert max(map(len, audio_blocks(path))) == 2**20 // 256


def test_a_file_is_closed_when_nobody_reads_on(tmp_path):
    blocks = audio_blocks(write(tmp_path / "a.wav", tone(30.0)))
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert list(blocks) == []


# --- what is written ----------------------------------------------------------------------------------


def test_flac_gives_16_bits_back_exactly(tmp_path):
    levels = np.arange(-(2**15), 2**15, 7)
    pcm = (levels / 2**15).astype(np.float32)
    write_flac(tmp_path / "a.flac", pcm)
    assert np.array_equal(read_audio(tmp_path / "a.flac"), pcm)
    assert soundfile.info(tmp_path / "a.flac").subtype == "PCM_16"
    write_flac(tmp_path / "b.flac", pcm)
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()


def test_flac_clips_what_is_too_loud(tmp_path):
    write_flac(tmp_path / "a.flac", np.array([-3, -1, 0, 1, 3], np.float32))
    assert read_audio(tmp_path / "a.flac").tolist() == [-1, -1, 0, 1 - 2**-15, 1 - 2**-15]


@pytest.mark.parametrize("pcm", [np.zeros(0), np.zeros((5, 2)), np.array([0, np.nan]), np.array([np.inf])])
def test_what_is_no_sound_is_not_written(tmp_path, pcm):
    with pytest.raises(ValueError, match="not a sound of one channel"):
        write_flac(tmp_path / "a.flac", pcm.astype(np.float32))
    assert list(tmp_path.iterdir()) == []


# --- faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_audio, seconds_of])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a\.wav cannot be read: No such file"),
        (b"", r"a\.wav is an empty file\n  give a file of sound"),
        (b"hello\tthere\nworld\n", r"a\.wav is no sound file: it is text that begins with 'hello there'"),
        (("ä" * 50).encode(), r"a\.wav is no sound file: it is text that begins with 'ä{20}'"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"text that begins with 'version https://git-lfs"),
        (bytes(range(256)), r"a\.wav is no sound file: .*Format not recognised"),
        (b"RIFF\x24\x00\x00\x00WAVE", r"a\.wav is no sound file: "),
    ],
)
def test_what_is_no_sound_is_named(tmp_path, read, content, message):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(path)


@pytest.mark.parametrize("read", [read_audio, seconds_of])
def test_folders_and_files_without_a_header_are_named(tmp_path, read):
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read(tmp_path)
    (tmp_path / "a.raw").write_bytes(b"\0\1" * 100)
    with pytest.raises(DataError, match=r"a\.raw is no sound file: .*samplerate"):
        read(tmp_path / "a.raw")


@pytest.mark.parametrize("read", [read_audio, seconds_of])
@pytest.mark.parametrize("rate", [SAMPLE_RATE, 44100])
def test_a_sound_without_samples_is_named(tmp_path, read, rate):
    path = write(tmp_path / "a.wav", np.zeros(0, np.float32), rate)
    with pytest.raises(DataError, match=r"a\.wav is a sound without samples\n  record it again"):
        read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [8000, SAMPLE_RATE])
def test_a_sample_that_is_no_number_is_named_where_it_is(tmp_path, value, rate):
    pcm = np.zeros((12 * rate, 2), np.float32)
    pcm[11 * rate, 1] = value
    path = write(tmp_path / "a.wav", pcm, rate, subtype="FLOAT")
    with pytest.raises(DataError, match=rf"a\.wav: sample {11 * rate} \(at 11\.000 s\) is not a finite"):
        read_audio(path)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "a.flac"
    write_flac(path, np.random.default_rng(0).uniform(-1, 1, 50_000).astype(np.float32))
    damaged = bytearray(path.read_bytes())
    damaged[20_000:60_000] = b"\xff" * 40_000
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"a\.flac is damaged: "):
        read_audio(path)


@pytest.mark.parametrize("missing", ["soundfile", "soxr"])
def test_what_is_not_installed_is_named(tmp_path, monkeypatch, missing):
    path = write(tmp_path / "a.wav", tone(0.1, 8000), 8000)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingRequirementError, match=rf"{missing} is not installed(.|\n)*edgelr\[speech\]"):
        read_audio(path)


def test_the_right_rate_needs_no_resampler(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    assert len(read_audio(write(tmp_path / "a.wav", tone(0.1)))) == 1600


def test_importing_it_imports_neither():
    code = "import sys, edgelr.runtime.audio; print({'soundfile', 'soxr', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr
