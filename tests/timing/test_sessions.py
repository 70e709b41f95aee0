import json
from pathlib import Path

import pytest

from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.errors import DamagedArtifactError
from edgelr.timing.sessions import package_sessions

TUNED = "session.disable_prepacking"


def test_settings_of_the_package_come_first(dense_translator: Package, cpu: Device, tmp_path: Path) -> None:
    settings = dense_translator.folder / "session.json"
    settings.write_text(json.dumps({cpu.name: {TUNED: "1"}}), encoding="utf-8")
    try:
        for entries, expected in (({}, "1"), ({TUNED: "0"}, "0")):
            sessions = package_sessions(dense_translator, cpu, ("encoder",), entries, None)
            assert list(sessions) == ["encoder"]
            assert sessions["encoder"].get_session_options().get_session_config_entry(TUNED) == expected
    finally:
        settings.unlink()


def test_every_graph_has_a_profile_of_its_own(dense_translator: Package, cpu: Device, tmp_path: Path) -> None:
    sessions = package_sessions(dense_translator, cpu, ("encoder", "decoder"), {}, tmp_path / "p")
    names = {Path(session.end_profiling()).name for session in sessions.values()}
    assert {name[:9] for name in names} == {"p-encoder", "p-decoder"}


def test_a_graph_that_is_not_there(dense_translator: Package, cpu: Device) -> None:
    with pytest.raises(DamagedArtifactError, match="no graph 'model'"):
        package_sessions(dense_translator, cpu, ("model",), {}, None)
