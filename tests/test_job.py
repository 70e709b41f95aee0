import re
from pathlib import Path

import pytest

from edgelr.errors import UsageError
from edgelr.job import open_job
from edgelr.progress import Progress


def job(recipe, out, devices=()):
    return open_job(recipe, out, devices, None, Progress(quiet=True))


def test_a_job_knows_its_precision_devices_and_model(tiny_recipe, tiny_model, tmp_path):
    found = job(tiny_recipe, tmp_path / "out", ("cpu-all",))
    assert found.precision == "int8-dynamic"
    assert found.validation.devices == ("cpu-all",)
    assert found.model_folder == tiny_model


def test_a_missing_model_folder_is_named_with_its_line(tiny_recipe, tiny_model, tmp_path):
    text = tiny_recipe.read_text().replace(str(tiny_model), "./nowhere")
    tiny_recipe.write_text(text)
    with pytest.raises(UsageError, match=r"tiny\.yaml:7: model\.path: .*nowhere does not exist"):
        job(tiny_recipe, tmp_path / "out")


def test_an_unknown_device_is_named(tiny_recipe, tmp_path):
    with pytest.raises(UsageError, match="cpu-2t"):
        job(tiny_recipe, tmp_path / "out", ("cpu-2t",))


def test_a_precision_that_the_device_does_not_take_is_told(tiny_recipe, tmp_path):
    (tmp_path / "devices").mkdir()
    text = (Path(__file__).parents[1] / "devices" / "cpu-1t.yaml").read_text()
    profile = re.sub(r"accepts:.*", "accepts: [fp32]", text.replace("name: cpu-1t", "name: exact"))
    (tmp_path / "devices" / "exact.yaml").write_text(profile)
    with pytest.raises(UsageError, match=r"'exact' does not accept int8-dynamic \(it accepts fp32\)"):
        job(tiny_recipe, tmp_path / "out", ("exact",))


def test_a_recipes_own_package_is_never_released_untested(tiny_recipe, add_variant, tmp_path):
    add_variant(tiny_recipe)
    words = r"tiny\.yaml:21: variants: every device of this build takes one \(phone\), and nothing would test"
    with pytest.raises(UsageError, match=words):
        job(tiny_recipe, tmp_path / "out", ("phone",))
    takes = job(tiny_recipe, tmp_path / "out", ("phone", "cpu-1t")).takes
    assert {name: [each.name for each in devices] for name, devices in takes.items()} == {
        "npu": ["phone"],
        None: ["cpu-1t"],
    }
