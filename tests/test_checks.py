import importlib.metadata
import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgelr.checks import (
    auto_device,
    budget_device,
    check_accepts,
    check_extras,
    takers,
    timed_schemes,
    variant_of,
)
from edgelr.device.load import load_devices
from edgelr.device.schema import Device
from edgelr.errors import MissingRequirementError, UsageError
from edgelr.job import open_job
from edgelr.progress import Progress
from edgelr.recipe.load import load_recipe
from edgelr.recipe.recommend import InteractionsFile, Recommend
from edgelr.recipe.tasks import ArraysFile, CldrPairs, OnnxGraph, Recognize, TaskSettings, Translate

KEEP = "keep: {parameters: 0.6}"
FAST = "keep: {latency: {device: cpu-1t, speedup: 1.5, tokens: 16}}"


def with_latency(recipe: Path, device: str = "cpu-1t") -> Path:
    recipe.write_text(recipe.read_text().replace(KEEP, FAST.replace("cpu-1t", device)))
    return recipe


def like_cpu(folder: Path, name: str, old: str, new: str) -> dict[str, Device]:
    """The known devices and one more, which differs from cpu-1t in one key."""
    (folder / "devices").mkdir()
    text = (Path(__file__).parents[1] / "devices" / "cpu-1t.yaml").read_text()
    text = re.sub(old, new, text.replace("name: cpu-1t", f"name: {name}"))
    (folder / "devices" / f"{name}.yaml").write_text(text)
    return load_devices(folder / "devices")


def test_only_a_latency_budget_has_a_device(tiny_recipe: Path, cpu: Device) -> None:
    profiles = {"cpu-1t": cpu}
    assert budget_device(load_recipe(tiny_recipe), tiny_recipe, profiles) is None
    assert budget_device(load_recipe(with_latency(tiny_recipe)), tiny_recipe, profiles) is cpu


def test_a_job_knows_where_kernels_are_timed(tiny_recipe: Path, tmp_path: Path, cpu: Device) -> None:
    job = open_job(with_latency(tiny_recipe), tmp_path / "out", ("cpu-4t",), None, Progress(quiet=True))
    assert job.timed_on == cpu
    assert [device.name for device in job.devices] == ["cpu-4t"]


@pytest.mark.parametrize("evidence", ["static", "emulated"])
def test_nothing_is_timed_on_a_device_that_does_not_run_for_real(
    tiny_recipe: Path, tmp_path: Path, evidence: str
) -> None:
    profiles = like_cpu(tmp_path, "phone", "evidence: run", f"evidence: {evidence}")
    recipe = load_recipe(with_latency(tiny_recipe, "phone"))
    message = (
        rf"tiny\.yaml:9: compress\.keep\.latency\.device: nothing can be timed on 'phone' "
        rf"\(evidence: {evidence}\); a budget of latency needs a device with evidence: run"
    )
    with pytest.raises(UsageError, match=message):
        budget_device(recipe, tiny_recipe, profiles)


def test_the_provider_of_a_latency_budget_must_be_installed(tiny_recipe: Path, tmp_path: Path) -> None:
    profiles = like_cpu(tmp_path, "phone", "CPUExecutionProvider", "OpenVINOExecutionProvider")
    recipe = load_recipe(with_latency(tiny_recipe, "phone"))
    with pytest.raises(MissingRequirementError, match="device 'phone': OpenVINOExecutionProvider is not"):
        budget_device(recipe, tiny_recipe, profiles)


def test_a_precision_that_the_device_does_not_take_is_told(tiny_recipe: Path, tmp_path: Path) -> None:
    device = like_cpu(tmp_path, "exact", r"accepts:.*", "accepts: [fp32]")["exact"]
    with pytest.raises(UsageError, match=r"'exact' does not accept int8-dynamic \(it accepts fp32\)"):
        check_accepts(device, load_recipe(tiny_recipe))


@pytest.mark.parametrize(
    ("section", "refused"),
    [
        ("scheme: weight-int4", "weight-int4"),
        ("scheme: int8-dynamic, layers: {'*.query': fp16, '*.key': weight-int8}", "fp16, weight-int8"),
        ("scheme: int8-dynamic, layers: {'*.query': fp32}", "fp32"),
        ("scheme: int8-dynamic, max_drop: {metric: cosine, value: 0.1}", "fp32"),
    ],
)
def test_everything_that_a_layer_may_be_is_checked(
    tiny_recipe: Path, tmp_path: Path, section: str, refused: str
) -> None:
    device = like_cpu(tmp_path, "npu", r"accepts:.*", "accepts: [int8-dynamic]")["npu"]
    text = tiny_recipe.read_text(encoding="utf-8")
    text = text.replace("quantize: {scheme: int8-dynamic", f"quantize: {{{section}")
    tiny_recipe.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=rf"'npu' does not accept {refused} \(it accepts int8-dynamic\)"):
        check_accepts(device, load_recipe(tiny_recipe))


@pytest.mark.parametrize(
    ("absent", "translates", "hint"),
    [
        ("torch", False, "pip install 'edgelr[build]'"),
        ("sacrebleu", True, "pip install 'edgelr[build,translation]'"),
        ("babel", True, "pip install 'edgelr[build,translation]'"),
    ],
)
def test_what_building_needs_is_named_when_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: Path, absent: str, translates: bool, hint: str
) -> None:
    task: TaskSettings = load_recipe(tiny_recipe).task
    if translates:
        data = CldrPairs(source="cldr", languages=("en", "de"))  # type: ignore[call-arg]
        task = Translate(type="translation", data=data)  # type: ignore[call-arg]
    check_extras(task)

    def version(name: str) -> str:
        if name == absent:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(MissingRequirementError, match=f"not installed: {absent}") as caught:
        check_extras(task)
    assert caught.value.hint == hint


def test_recordings_of_the_hub_need_the_extra_that_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"source": "dataset", "id": "google/fleurs"}
    task = Recognize.model_validate({"type": "automatic-speech-recognition", "data": data})
    check_extras(task)
    monkeypatch.setattr("edgelr.checks._installed", lambda name: name != "datasets")
    with pytest.raises(MissingRequirementError, match=r"edgelr\[build,speech,datasets\]"):
        check_extras(task)


def test_an_onnx_file_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    data = ArraysFile(source="arrays", path="a.npz")  # type: ignore[call-arg]
    check_extras(OnnxGraph(type="onnx", data=data))  # type: ignore[call-arg]


def test_parquet_needs_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    data = InteractionsFile(source="file", path="clicks.parquet")  # type: ignore[call-arg]
    task = Recommend(type="recommendation", data=data)

    def version(name: str) -> str:
        if name == "pyarrow":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(MissingRequirementError, match="not installed: pyarrow") as caught:
        check_extras(task)
    assert caught.value.hint == "pip install 'edgelr[build,recommendation]'"
    check_extras(task.model_copy(update={"data": data.model_copy(update={"path": "clicks.csv"})}))


AUTO = "quantize: {scheme: auto}"


def test_auto_is_measured_on_the_first_device_that_runs_for_real(
    tiny_recipe: Path, tmp_path: Path, cpu: Device
) -> None:
    assert auto_device(load_recipe(tiny_recipe), tiny_recipe, [cpu]) is None
    tiny_recipe.write_text(re.sub("quantize:.*", AUTO, tiny_recipe.read_text()))
    recipe = load_recipe(tiny_recipe)
    phone = like_cpu(tmp_path, "phone", "evidence: run", "evidence: static")["phone"]
    few = replace(cpu, accepts=("fp32", "weight-int8", "fp16"))
    assert auto_device(recipe, tiny_recipe, [phone, few, cpu]) is few
    assert timed_schemes([phone, few, cpu]) == ("weight-int8", "fp32"), "what all of them take"
    with pytest.raises(
        UsageError, match=r"quantize\.scheme: auto needs a device that can be timed here .*phone"
    ):
        auto_device(recipe, tiny_recipe, [phone])
    exact = replace(cpu, accepts=("int4", "int8-dynamic"))
    with pytest.raises(UsageError, match="accept no scheme that is the same for all"):
        auto_device(recipe, tiny_recipe, [few, exact])


def test_auto_on_a_device_that_takes_no_scheme_is_told_before_anything_is_computed(
    tiny_recipe: Path, tmp_path: Path, cpu: Device
) -> None:
    tiny_recipe.write_text(re.sub("quantize:.*", AUTO, tiny_recipe.read_text()))
    exact = replace(cpu, accepts=("fp32", "fp16"), name="exact")
    with pytest.raises(
        UsageError, match="auto has nothing to choose from on 'exact', which accepts fp32, fp16"
    ):
        check_accepts(exact, load_recipe(tiny_recipe))
    check_accepts(cpu, load_recipe(tiny_recipe))


NPU = "variants: {npu: {export: {operators: plain}, quantize: {scheme: a16w8}}, exact: {}}\n"


def test_a_device_takes_the_first_variant_that_it_accepts(
    tiny_recipe: Path, cpu: Device, npu: Device
) -> None:
    tiny_recipe.write_text(tiny_recipe.read_text() + NPU)
    recipe = load_recipe(tiny_recipe)
    exact = replace(cpu, name="exact", accepts=("fp32",))
    both = replace(cpu, name="both", accepts=("fp32", "a16w8"))
    assert [variant_of(device, recipe) for device in (cpu, npu, exact, both)] == [None, "npu", "exact", "npu"]
    assert takers(recipe, tiny_recipe, [cpu, npu, both]) == {None: [cpu], "npu": [npu, both]}


def test_without_a_variant_for_it_the_device_is_refused_and_the_hint_says_how(
    tiny_recipe: Path, npu: Device
) -> None:
    with pytest.raises(
        UsageError, match=r"'npu' does not accept int8-dynamic \(it accepts a16w8\)"
    ) as caught:
        variant_of(npu, load_recipe(tiny_recipe))
    assert "variants, for an NPU npu: {export: {operators: plain}, quantize:" in str(caught.value.hint)


def test_auto_is_chosen_for_the_devices_of_the_recipes_own_package(
    tiny_recipe: Path, tmp_path: Path, cpu: Device
) -> None:
    like_cpu(tmp_path, "npu", r"accepts:.*", "accepts: [a16w8]")
    tiny_recipe.write_text(tiny_recipe.read_text().replace("int8-dynamic", "auto") + NPU)
    job = open_job(tiny_recipe, tmp_path / "out", ("npu", "cpu-1t"), None, Progress(quiet=True))
    assert job.chosen_on == cpu
    assert timed_schemes(job.takes[None]) == timed_schemes([cpu])
