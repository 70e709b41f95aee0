import shutil
from pathlib import Path

from edgelr.release import release, withdraw
from edgelr.runtime.package import open_package
from edgelr.verdict import AccuracyRow, Verdict

ROW = AccuracyRow(
    variant="candidate", device="cpu-1t", metric="cosine", value=0.75, ci95=(0.7, 0.8), examples=3
)


def verdict() -> Verdict:
    return Verdict(
        folder=Path(), passed=True, accuracy=(ROW,), latency=(), placement=(), gates=(), sizes={}, notes=()
    )


def put(package, out, *, passed, **variants):
    out.mkdir(exist_ok=True)
    gates = [{"metric": "cosine", "min": 0.5}]
    packages = {"candidate": package, **variants}
    return release(packages, verdict(), gates=gates, recipe_hash="abc", passed=passed, out=out)


def test_a_released_package_knows_its_accuracy_gates_and_recipe(make_package, tmp_path):
    where = put(make_package(), tmp_path / "out", passed=True)
    found = open_package(where)
    assert where.name == "package"
    assert found.accuracy == {"cosine": 0.75}
    assert found.gates == ({"metric": "cosine", "min": 0.5},)
    assert found.source["recipe"] == "abc"


def test_what_was_compiled_becomes_part_of_the_package(make_package, tmp_path):
    out = tmp_path / "out"
    package = make_package()
    for passed in (False, True):
        (out / "qnn" / "candidate" / "sm8550").mkdir(parents=True, exist_ok=True)
        compiled = out / "qnn" / "candidate" / "sm8550" / "model-1x8.onnx"
        shutil.copy(package.folder / "model.onnx", compiled)
        found = open_package(put(package, out, passed=passed))
        assert ("qnn/sm8550/model-1x8.onnx" in found.files) == passed
        assert found.cost == package.cost, "an app ships one in place of the graph"
    assert not (out / "qnn").exists()


def test_only_one_of_package_and_rejected_is_there(make_package, tmp_path):
    out = tmp_path / "out"
    package = make_package()
    put(package, out, passed=True)
    put(package, out, passed=False)
    assert (out / "rejected").is_dir()
    assert not (out / "package").exists()
    withdraw(out)
    assert not (out / "rejected").exists()


def test_a_released_package_has_its_sounds(dense_speech, tmp_path):
    where = put(dense_speech, tmp_path / "out", passed=True)
    found = open_package(where)
    assert found.files == dense_speech.files
    assert found.cost == dense_speech.cost, "sounds are not shipped"
    for file in found.files:
        assert (where / file).read_bytes() == (dense_speech.folder / file).read_bytes()


def test_a_variant_is_sealed_first_and_with_its_own_accuracy(make_package, tmp_path):
    out = tmp_path / "out"
    compiled = out / "qnn" / "npu" / "sm8550" / "model-1x8.onnx"
    compiled.parent.mkdir(parents=True)
    package, variant = make_package(), make_package("other", precision="a16w8", noise=0.1)
    shutil.copy(variant.folder / "model.onnx", compiled)
    where = put(package, out, passed=True, npu=variant)
    found, inner = open_package(where), open_package(where / "npu")
    assert list(found.variants) == ["npu"]
    assert found.cost == package.cost
    assert "qnn/sm8550/model-1x8.onnx" in inner.files
    assert (found.accuracy, inner.accuracy) == ({"cosine": 0.75}, {}), "nothing scored the variant"
    assert inner.source["recipe"] == "abc"
    assert not (out / "qnn").exists()
    assert list(open_package(put(package, out, passed=True)).variants) == []
    assert not (where / "npu").exists()
