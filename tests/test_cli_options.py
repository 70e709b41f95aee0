import click

from edgelr.cli_options import complete_device, device_option, example


def test_devices_are_completed() -> None:
    command = click.Command("x")
    found = complete_device(click.Context(command), click.Argument(["device"]), "cpu-1")
    assert [item.value for item in found] == ["cpu-1t"]


def test_an_example_keeps_its_lines() -> None:
    assert example("one", "two") == "\b\nExample:\n  one\n  two"


def test_a_device_has_a_name() -> None:
    @click.command()
    @device_option("--device")
    def command(device: str) -> None:
        """Do."""

    assert command.params[0].metavar == "NAME"
