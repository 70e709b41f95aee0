"""How well a package of spoken commands hears a real person: recorded numbers, dates and letters.

    apt-get install asterisk-core-sounds-en-wav      # Debian: prompts of telephone exchanges, 8 kHz, CC BY-SA
    python scripts/benchmarks/recorded_speech.py build/spoken-commands/package

Its model has heard synthetic voices only, so this is outside of what it was made for: a figure, not a goal.
Words are scored alone, and in strings of four with a short pause between them, as people say codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from edgelr.device.load import load_devices
from edgelr.load.spoken_phrases import in_words, listed, ordinal
from edgelr.metrics.bootstrap import interval
from edgelr.metrics.speech import speech_scores
from edgelr.runtime.audio import SAMPLE_RATE, read_audio
from edgelr.runtime.package import open_package
from edgelr.runtime.transcribe import open_transcriber, text_of, transcribe

SOUNDS = Path("/usr/share/asterisk/sounds/en")
DAYS = listed("sunday monday tuesday wednesday thursday friday saturday")
MONTHS = listed("january february march april may june july august september october november december")
PAUSE_S, STRINGS, WORDS = 0.15, 100, 4


def recorded() -> dict[str, Path]:
    """What is said in each recording of a word that the model knows, and the file."""
    digits, letters = SOUNDS / "digits", SOUNDS / "letters"
    numbers = [*range(21), *range(30, 100, 10)]
    found = {in_words(number): digits / f"{number}.wav" for number in numbers}
    found |= {ordinal(number): digits / f"h-{number}.wav" for number in numbers[1:21]}
    found |= {day: digits / f"day-{number}.wav" for number, day in enumerate(DAYS)}
    found |= {month: digits / f"mon-{number}.wav" for number, month in enumerate(MONTHS)}
    found |= {letter: letters / f"{letter}.wav" for letter in "abcdefghijklmnopqrstuvwxyz"}
    return found | {"hundred": digits / "hundred.wav", "thousand": digits / "thousand.wav"}


def strings(words: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Strings of four words of one kind, such as a code."""
    random = np.random.default_rng(0)
    pause = np.zeros(int(PAUSE_S * SAMPLE_RATE), np.float32)
    kinds = [[in_words(number) for number in range(10)], [each for each in words if len(each) == 1]]
    for number in range(STRINGS):
        chosen = random.choice(kinds[number % 2], WORDS)
        parts = [part for word in chosen for part in (words[word], pause)]
        yield " ".join(chosen), np.concatenate([pause, *parts])


@click.command()
@click.argument("packages", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
def main(packages: tuple[Path, ...], out: Path) -> None:
    """Transcribe the recordings by every package, and print error rates with their intervals."""
    if not SOUNDS.is_dir():
        raise click.ClickException(f"{SOUNDS} is not there: apt-get install asterisk-core-sounds-en-wav")
    words = {text: read_audio(path) for text, path in recorded().items()}
    pause = np.zeros(int(PAUSE_S * SAMPLE_RATE), np.float32)
    alone = [(text, np.concatenate([pause, sound, pause])) for text, sound in words.items()]
    rows = []
    print("| package | sounds | | word error rate, % | right |\n|---|---|---|---|---|")
    for folder in packages:
        transcriber = open_transcriber(open_package(folder), load_devices()["cpu-1t"])
        for name, given in (("words", alone), ("strings of four", list(strings(words)))):
            texts = [text for text, _ in given]
            found = [text_of(transcribe(transcriber, [sound], beams=1)) for _, sound in given]
            scores = speech_scores(found, texts, found)
            value, low, high = interval(scores["wer"])
            right = scores["exact_match"].value
            print(f"| {folder} | {name} | {len(given)} | {value:.1f} [{low:.1f}, {high:.1f}] | {right:.3f} |")
            pairs = [[text, heard] for text, heard in zip(texts, found, strict=True)]
            rows.append(
                {"package": str(folder), "sounds": name, "wer": value, "right": right, "texts": pairs}
            )
    out.mkdir(parents=True, exist_ok=True)
    (out / "recorded-speech.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
