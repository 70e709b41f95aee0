import hashlib
import shutil

import pytest

from edgelr.errors import QuantizeError
from edgelr.progress import Progress
from edgelr.quantize.stage import quantize
from edgelr.recipe.schema import Quantize, Scheme
from edgelr.runtime.package import open_package


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def fp32(built, tmp_path):
    source = next((built / ".store" / "export").glob("*/package.json")).parent
    shutil.copytree(source, tmp_path / "fp32")
    return open_package(tmp_path / "fp32")


def run(package, folder, min_cosine: float, scheme: Scheme = "int8-dynamic"):
    folder.mkdir()
    settings = Quantize(scheme=scheme, min_cosine=min_cosine)
    return quantize(package, settings, folder, Progress(quiet=True))


def test_the_result_is_smaller_deterministic_and_the_input_unchanged(fp32, tmp_path):
    before = digests(fp32.folder)
    one, two = (run(fp32, tmp_path / name, 0.5) for name in ("a", "b"))
    assert digests(fp32.folder) == before
    assert digests(one.folder) == digests(two.folder)
    assert one.precision == "int8-dynamic"
    model = "model.onnx"
    assert (one.folder / model).stat().st_size < 0.6 * (fp32.folder / model).stat().st_size
    for name in ("examples.jsonl", "reference.npz", "tokenizer.json"):
        assert one.files[name] == fp32.files[name]
    assert open_package(one.folder) == one


@pytest.mark.parametrize(("scheme", "cosine"), [("weight-int8", 0.999), ("weight-int4", 0.9)])
def test_blocks_of_weights(fp32, tmp_path, scheme, cosine):
    package = run(fp32, tmp_path / scheme, cosine, scheme)
    assert package.precision == scheme
    assert open_package(package.folder) == package


def test_too_far_from_fp32_fails_with_both_numbers(fp32, tmp_path):
    with pytest.raises(
        QuantizeError, match=r"mean cosine of int8-dynamic to fp32 is 0\.\d+, quantize.min_co"
    ):
        run(fp32, tmp_path / "a", 1.0)
