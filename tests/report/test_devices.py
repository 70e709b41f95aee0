"""What was done on each device, with its evidence."""

from typing import Any

from edgelr.report.devices import devices_markdown


def test_every_device_has_a_line_with_its_evidence(document: dict[str, Any]) -> None:
    lines = devices_markdown(document).splitlines()
    assert lines[2] == "| cpu-1t (run) | One core | candidate | yes | yes | recorded | – |"
    assert lines[3] == (
        "| web-wasm (emulated) | Browser | candidate | no | no | not told | agrees with cpu-1t on 6 inputs |"
    )
    assert lines[-1].startswith("Run: here, for real. Emulated: ")


def test_a_report_of_an_earlier_version_has_no_such_section(document: dict[str, Any]) -> None:
    del document["devices"]
    assert devices_markdown(document) == ""
