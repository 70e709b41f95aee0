"""Device profiles: those that travel with edgelr, and the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgelr.device.schema import Device
from edgelr.errors import MissingRequirementError, UsageError
from edgelr.recipe.yaml_file import read_yaml, yaml_names
from edgelr.typed import typed


def load_devices(extra_folder: Path | None = None) -> dict[str, Device]:
    """Read every device profile, sorted by name.

    Args:
        extra_folder: The user's own, such as a folder ``devices`` next to the recipe; it need not exist.

    Raises:
        UsageError: Profiles have faults (all are reported at once), or one takes a name that is taken.
        MissingRequirementError: The packaged profiles are not where they were installed.
    """
    packaged = packaged_folder()
    folders = [packaged]
    if extra_folder is not None and extra_folder.is_dir() and not extra_folder.samefile(packaged):
        folders.append(extra_folder)
    devices: dict[str, Device] = {}
    origins: dict[str, Path] = {}
    errors: list[str] = []
    for folder in folders:
        for name in yaml_names(folder):
            try:
                device = read_device(folder / name)
                _check_free(folder / name, device, devices, packaged=origins.get(device.name) == packaged)
            except UsageError as error:
                errors.append(str(error))
            else:
                devices[device.name], origins[device.name] = device, folder
    if errors:
        raise UsageError("\n".join(errors))
    return dict(sorted(devices.items()))


def read_device(path: Path) -> Device:
    """Read one profile; its name is that of its file.

    Raises:
        UsageError: It cannot be read, or has faults.
    """
    from edgelr.device.profile import Profile
    from edgelr.recipe.faults import check_schema, usage_error

    file = read_yaml(path, what="device profile")
    profile, faults = check_schema(Profile, file)
    name = file.at(("name",))
    if isinstance(name, str) and name != path.stem:
        faults += (file.fault(("name",), f"'{name}' is not what the file is called, '{path.stem}'"),)
    if profile is None or faults:
        raise usage_error(path, faults)
    return profile.device()


def get_device(name: str, devices: Mapping[str, Device]) -> Device:
    """The profile called ``name``.

    Raises:
        UsageError: There is none.
    """
    if name not in devices:
        from edgelr.recipe.faults import did_you_mean

        raise UsageError(
            f"unknown device '{name}'{did_you_mean(name, devices)}",
            f"known devices: {', '.join(sorted(devices))}",
        )
    return devices[name]


def find_device(name: str) -> Device:
    """A profile by its name, or a user's own by its file.

    Args:
        name: Of a packaged profile, or of a ``.yaml`` file.

    Raises:
        UsageError: There is no such profile, or the file is none.
    """
    if name.endswith((".yaml", ".yml")):
        return read_device(Path(name))
    folder = packaged_folder()
    if f"{name}.yaml" in yaml_names(folder):
        # As the tests have checked it: an app has no memory to spare for checking it again.
        return typed(Device, read_yaml(folder / f"{name}.yaml", what="device profile").value)
    return get_device(name, load_devices())


def packaged_folder() -> Path:
    """Where the profiles of edgelr itself are: in the package once installed, else in the source tree.

    Raises:
        MissingRequirementError: In neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_devices", package.parent / "devices"):
        if any(name == "cpu-1t.yaml" for name in yaml_names(folder)):
            return folder
    raise MissingRequirementError(
        f"the device profiles are missing from {package / '_devices'}",
        "pip install --force-reinstall --no-deps edgelr",
    )


def _check_free(path: Path, device: Device, taken: Mapping[str, Device], *, packaged: bool) -> None:
    # A copy of a packaged profile is harmless; another meaning of its name would make two reports disagree.
    if device.name in taken and taken[device.name] != device:
        from edgelr.recipe.faults import usage_error

        owner = "is a profile of edgelr itself" if packaged else "is taken by another profile"
        message = f"'{device.name}' {owner}, and this one differs; give it a name of its own"
        raise usage_error(path, (read_yaml(path, what="device profile").fault(("name",), message),))
