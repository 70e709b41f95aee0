import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgelr.artifact_files import read_source, read_survey
from edgelr.artifacts import SPLITS, Source
from edgelr.examples import write_examples
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress
from edgelr.recipe.tasks import Recognize
from edgelr.survey.task import survey_task


def only(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if (path / "manifest.json").is_file())


def test_a_survey_lists_every_linear_with_its_spectrum(built):
    survey = read_survey(only(built / ".store" / "survey"))
    assert len(survey.sites) == 12  # two layers of q, k, v, o, up, down
    assert len({site.inputs for site in survey.sites}) == 8  # q, k, v read the same tensor
    with np.load(survey.folder / "spectra.npz") as spectra:
        for site in survey.sites:
            energies = spectra[site.name]
            assert energies.shape == (min(site.out, site.in_),)
            assert np.all(np.diff(energies) <= 0)
            assert np.isclose(energies.sum(), site.energy)
            assert len(site.sensitivity.points) == 1
            assert site.sensitivity.slope > 0
    assert survey.tokens > 0


def test_the_source_is_not_changed_by_later_stages(built):
    source = read_source(only(built / ".store" / "load"))
    digest = hashlib.sha256((source.folder / "data" / "train.jsonl").read_bytes()).hexdigest()
    manifest = (source.folder / "manifest.json").read_text()
    assert digest in manifest


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2", "moonshine"])
def test_costs_of_speech_are_counted_by_what_the_model_reads(
    kind, tiny_whisper, make_ctc, make_moonshine, sounds, utterances, tmp_path
):
    folders = {"whisper": lambda: tiny_whisper, "wav2vec2": lambda: make_ctc("wav2vec2")}
    model = folders.get(kind, lambda: make_moonshine("plain"))()
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (home / "data" / "audio").symlink_to(sounds / "audio")
    for split in SPLITS:
        write_examples(home / "data" / f"{split}.jsonl", utterances[:4])
    source = Source(
        folder=home, model_folder=model, fingerprint="f", title="t", license=None, counts={"test": 4}
    )
    data = {"source": "file", "path": "u.jsonl"}
    task = Recognize.model_validate({"type": "automatic-speech-recognition", "data": data, "max_tokens": 24})
    calibration = {"examples": 4, "sensitivity_examples": 0}
    compress = Compress.model_validate(
        {"keep": {"parameters": 0.5}, "allocate": "energy", "groups": (), "calibration": calibration}
    )
    (tmp_path / "survey").mkdir()
    found = survey_task(source, task, compress, tmp_path / "survey", Progress(quiet=True))
    first = next(site for site in found.sites if "encoder.layers.0" in site.name and len(site.kernel) == 0)
    if kind == "whisper":
        assert (found.unit, first.calls) == ("window and its transcript", 100), "positions of its window"
    else:
        assert (found.unit, first.calls) == ("position of the encoder", 1)
