"""Which functions serve which kind of model; what they do is tested with each kind."""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgelr.errors import UnsupportedModelError
from edgelr.tasks import ctc_recognition, moonshine_recognition, speech, speech_recognition
from edgelr.tasks.speech_model import collate
from edgelr.tasks.task import Reading, Task, get_task

FUNCTIONS = [name for name, value in vars(Task).items() if inspect.isfunction(value) and name[0] != "_"]


def test_it_has_every_function_of_a_task() -> None:
    assert get_task("automatic-speech-recognition") is speech
    assert {"load_model", "furnish", "probe"} <= set(FUNCTIONS)
    for name in FUNCTIONS:
        wanted = [each for each in inspect.signature(getattr(Task, name)).parameters if each != "self"]
        assert list(inspect.signature(getattr(speech, name)).parameters) == wanted, name


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("whisper", speech_recognition),
        ("moonshine", moonshine_recognition),
        ("wav2vec2", ctc_recognition),
        ("hubert", ctc_recognition),
    ],
)
def test_the_kind_of_model_decides(
    kind: str, module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    model: Any = SimpleNamespace(config=SimpleNamespace(model_type=kind))
    reading: Any = SimpleNamespace(folder=tmp_path)
    given: dict[str, tuple[Any, ...]] = {
        "load_model": (tmp_path,),
        "check_reach": (model, reading),
        "token_table": (model,),
        "seen_tokens": (reading, ()),
        "example_batches": (reading, (), 2),
        "losses": (model, reading, (), None, 0, tmp_path, None),
        "validator": (model, reading, ()),
        "scorer": (model, reading, ()),
        "graphs": (model, reading, ()),
        "package_settings": (model, reading),
        "furnish": (tmp_path, model, model, reading, (), None),
    }
    for name, arguments in given.items():
        monkeypatch.setattr(module, name, lambda *taken, name=name: (name, taken))
        called = getattr(speech, name)(*arguments)
        assert called is None or called == (name, arguments)
    monkeypatch.setattr(module, "run", lambda *taken, **more: (taken, more))
    assert speech.run(model, {}, hidden=True) == ((model, {}), {"hidden": True})
    assert set(given) | {"run", "distance", "probe"} == set(FUNCTIONS)


def test_a_model_that_does_not_hear_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="is a model of type 'bert'") as caught:
        speech.load_model(tiny_model)
    assert caught.value.exit_code == 4
    with pytest.raises(UnsupportedModelError, match=r"config\.json cannot be read"):
        speech.load_model(tmp_path)


def test_whisper_is_run(tiny_whisper: Path, speech_reading: Reading, utterances: Any) -> None:
    model = speech.load_model(tiny_whisper)
    batch = collate(speech_reading, utterances[:2])
    assert speech.run(model, batch, hidden=True).hidden
    assert speech.package_settings(model, speech_reading)["window_samples"] == 32_000
