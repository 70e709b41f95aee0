import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError
from edgelr.runners.fixed import FixedShapes
from edgelr.runtime.open_graphs import open_graphs, runs_on

TUNED = "session.disable_prepacking"


def test_settings_of_the_package_come_first(dense_translator: Package, cpu: Device, tmp_path: Path) -> None:
    settings = dense_translator.folder / "session.json"
    settings.write_text(json.dumps({cpu.name: {TUNED: "1"}}), encoding="utf-8")
    try:
        for entries, expected in (({}, "1"), ({TUNED: "0"}, "0")):
            sessions = open_graphs(dense_translator, cpu, ("encoder",), entries)
            assert list(sessions) == ["encoder"]
            assert sessions["encoder"].get_session_options().get_session_config_entry(TUNED) == expected
    finally:
        settings.unlink()


def test_every_graph_has_a_profile_of_its_own(dense_translator: Package, cpu: Device, tmp_path: Path) -> None:
    sessions = open_graphs(dense_translator, cpu, ("encoder", "decoder"), {}, tmp_path / "p")
    names = {Path(session.end_profiling()).name for session in sessions.values()}
    assert {name[:9] for name in names} == {"p-encoder", "p-decoder"}


def test_a_graph_that_is_not_there(dense_translator: Package, cpu: Device) -> None:
    with pytest.raises(DamagedArtifactError, match="no graph 'model'"):
        open_graphs(dense_translator, cpu, ("model",), {})


def test_features_of_sound_run_beside_hardware_without_floats(cpu: Device) -> None:
    npu = load_devices()["qnn-htp-emulator"]
    assert runs_on("features", npu).name == "cpu-1t"
    assert runs_on("encoder", npu) is npu
    for other in (cpu, load_devices()["openvino-npu"], load_devices()["web-wasm"]):
        assert runs_on("features", other) is other


def test_they_are_opened_there(dense_speech: Package, cpu: Device) -> None:
    npu = replace(cpu, name="npu", shapes="fixed", accepts=("a16w8",))
    opened = open_graphs(dense_speech, npu, ("features", "encoder"))
    assert not isinstance(opened["features"], FixedShapes)
    assert isinstance(opened["encoder"], FixedShapes)
