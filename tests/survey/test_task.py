import hashlib
from pathlib import Path

import numpy as np

from edgelr.artifact_files import read_source, read_survey


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
