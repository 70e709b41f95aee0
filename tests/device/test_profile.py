"""What a profile may say together."""

from dataclasses import fields, is_dataclass

import pytest
from pydantic import ValidationError

from edgelr.device.profile import Profile, Section, SessionSection
from edgelr.device.schema import Device, Session

PROFILE = {"edgelr": 1, "name": "d", "title": "D", "provider": "CPUExecutionProvider", "evidence": "emulated"}


def test_a_processor_belongs_to_an_emulated_one() -> None:
    given = {**PROFILE, "runner": "arm64", "processor": "max"}
    assert Profile.model_validate(given).device().processor == "max"
    for odd in ({"runner": "arm64"}, {"processor": "max"}, {"runner": "web", "processor": "max"}):
        with pytest.raises(ValidationError, match="'processor' and 'runner: arm64' go together"):
            Profile.model_validate({**PROFILE, **odd})


def test_what_is_simulated_has_not_run() -> None:
    with pytest.raises(ValidationError, match="'runner: web' simulates: its evidence is emulated"):
        Profile.model_validate({**PROFILE, "evidence": "run", "runner": "web"})


@pytest.mark.parametrize("option", ["enable_cuda_graph", "trt_cuda_graph_enable"])
def test_a_cuda_graph_has_fixed_shapes(option: str) -> None:
    given = {**PROFILE, "provider": "CUDAExecutionProvider", "evidence": "run", "options": {option: "1"}}
    with pytest.raises(ValidationError, match="asks for a CUDA graph, which has 'shapes: fixed'"):
        Profile.model_validate(given)
    assert Profile.model_validate({**given, "shapes": "fixed"}).device().captures
    assert not Profile.model_validate({**given, "options": {option: "0"}}).device().captures


def test_options_are_text() -> None:
    with pytest.raises(ValidationError, match="string"):
        Profile.model_validate({**PROFILE, "options": {"device_id": 0}})


def test_a_host_belongs_to_ssh_and_is_not_timed() -> None:
    given = {**PROFILE, "evidence": "run", "runner": "ssh"}
    assert not Profile.model_validate({**given, "host": "pi@board.local"}).device().timed
    assert Profile.model_validate({**PROFILE, "evidence": "run"}).device().timed
    for odd in (given, {**PROFILE, "host": "board"}):
        with pytest.raises(ValidationError, match="'host' and 'runner: ssh' go together"):
            Profile.model_validate(odd)
    with pytest.raises(ValidationError, match="pattern"):
        Profile.model_validate({**given, "host": "-F"})


@pytest.mark.parametrize(("section", "kind"), [(Profile, Device), (SessionSection, Session)])
def test_a_file_has_the_fields_and_the_defaults_of_what_it_says(section: type[Section], kind: type) -> None:
    assert is_dataclass(kind)
    assert list(section.model_fields) == [each.name for each in fields(kind)]
    needed = [name for name, each in section.model_fields.items() if each.is_required()]
    assert needed == ([] if kind is Session else list(PROFILE))
    assert Profile.model_validate(PROFILE).device() == Device(**PROFILE)  # type: ignore[arg-type]
