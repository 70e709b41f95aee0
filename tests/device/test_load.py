"""Profiles: those of edgelr, the user's own, and their faults."""

# ruff: noqa: E501 - a message is one line, as the user sees it

from pathlib import Path
from typing import get_args

import pytest

from edgelr.device.load import find_device, get_device, load_devices, packaged_folder, read_device
from edgelr.device.schema import Precision
from edgelr.errors import UsageError

PROFILE = """\
edgelr: 1
name: phone
title: A phone
provider: CPUExecutionProvider
evidence: run
"""


def write(folder: Path, text: str, name: str = "phone.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def refusal(folder: Path) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load_devices(folder)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_the_processor_of_this_host_in_three_sizes():
    devices = {name: each for name, each in load_devices().items() if name.startswith("cpu-")}
    assert {name: device.threads for name, device in devices.items()} == {
        "cpu-1t": 1,
        "cpu-4t": 4,
        "cpu-all": 0,
    }
    for device in devices.values():
        assert device.provider == "CPUExecutionProvider"
        assert device.session.entries == {"session.intra_op.allow_spinning": "0"}
        assert set(device.accepts) == set(get_args(Precision))
        assert (device.evidence, device.runner, device.fallback) == ("run", "in-process", "forbid")


def test_what_is_simulated_is_not_timed():
    for name, device in load_devices().items():
        simulated = name.startswith(("arm64", "qnn", "raspberry", "web"))
        assert (device.evidence == "emulated") == simulated == (device.runner != "in-process")


def test_what_is_analyzed_takes_every_precision():
    analyzed = [device for device in load_devices().values() if device.evidence == "static"]
    assert [device.name for device in analyzed] == ["android-nnapi", "android-xnnpack", "ios-coreml"]
    assert all(set(device.accepts) == set(get_args(Precision)) for device in analyzed)


def test_every_packaged_profile_is_in_the_readme():
    text = (packaged_folder() / "README.md").read_text()
    assert [name for name in load_devices() if f"`{name}`" not in text] == []


def test_own_profiles_are_added(tmp_path):
    write(tmp_path, PROFILE)
    write(tmp_path, PROFILE.replace("phone", "a-watch"), "a-watch.yml")
    assert list(load_devices(tmp_path)) == sorted({"a-watch", "phone", *load_devices()})


def test_a_folder_that_is_not_there_or_is_the_packaged_one_adds_nothing(tmp_path):
    assert load_devices(tmp_path / "gone") == load_devices() == load_devices(packaged_folder())


def test_faults_of_all_profiles_come_at_once(tmp_path):
    write(tmp_path, PROFILE.replace("evidence: run", "evidence: ran\nthreds: 2"))
    write(tmp_path, PROFILE + "session: {entries: {session.intra_op.allow_spinning: 0}}\n", "other.yaml")
    write(tmp_path, "a: [", "broken.yaml")
    assert refusal(tmp_path) == [
        "broken.yaml:1:5: not valid YAML: expected the node content, but found '<stream end>', "
        "while parsing a flow node",
        "other.yaml:2: name: 'phone' is not what the file is called, 'other'",
        "other.yaml:6: session.entries['session.intra_op.allow_spinning']: expected text, "
        "found 0 (whole number); put it in quotes",
        "phone.yaml:5: evidence: expected one of run, emulated, static, found 'ran' (text); did you mean 'run'?",
        "phone.yaml:6: threds: unknown key; did you mean 'threads'?",
    ]


def test_a_provider_has_a_providers_name(tmp_path):
    write(tmp_path, PROFILE.replace("CPUExecutionProvider", "cpu"))
    assert refusal(tmp_path) == [
        "phone.yaml:4: provider: expected a name (as ONNX Runtime names it, such as CPUExecutionProvider), "
        "found 'cpu' (text)"
    ]


def test_a_name_means_one_thing(tmp_path):
    packaged = (packaged_folder() / "cpu-1t.yaml").read_text()
    write(tmp_path, packaged, "cpu-1t.yaml")
    assert load_devices(tmp_path) == load_devices()
    write(tmp_path, packaged.replace("threads: 1", "threads: 2"), "cpu-1t.yaml")
    assert refusal(tmp_path) == [
        "cpu-1t.yaml:2: name: 'cpu-1t' is a profile of edgelr itself, and this one differs; "
        "give it a name of its own"
    ]


def test_two_own_files_cannot_share_a_name(tmp_path):
    write(tmp_path, PROFILE)
    write(tmp_path, PROFILE + "threads: 2\n", "phone.yml")
    assert refusal(tmp_path) == [
        "phone.yml:2: name: 'phone' is taken by another profile, and this one differs; give it a name of its own"
    ]


def test_one_profile_by_its_path(tmp_path):
    assert read_device(write(tmp_path, PROFILE)).title == "A phone"


def test_an_unknown_device_names_the_nearest_and_all():
    devices = load_devices()
    assert get_device("cpu-1t", devices) is devices["cpu-1t"]
    with pytest.raises(UsageError) as caught:
        get_device("cpu1t", devices)
    known = ", ".join(sorted(devices))
    assert str(caught.value) == f"unknown device 'cpu1t'; did you mean 'cpu-1t'?\n  known devices: {known}"


def test_a_packaged_profile_that_is_read_alone_is_what_it_is_among_all():
    for name, device in load_devices().items():
        assert find_device(name) == device


def test_a_name_leads_nowhere_else(tmp_path):
    write(tmp_path, PROFILE)
    for name in ("../cpu-1t", f"{tmp_path}/phone", "", "README"):
        with pytest.raises(UsageError, match="unknown device"):
            find_device(name)
