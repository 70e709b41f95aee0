import numpy as np
import onnx

from edgelr.artifacts import Package
from edgelr.device.session import open_session
from edgelr.examples import Example, read_examples
from edgelr.pipeline import build
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.package import open_package
from edgelr.runtime.text import embed, package_tokenizer


def test_both_packages_equal_torch_on_every_case(built, cpu):
    folders = [path.parent for path in (built / ".store" / "export").glob("*/package.json")]
    assert len(folders) == 2
    for folder in folders:
        package = open_package(folder)
        assert package.precision == "fp32"
        arrays = read_arrays(folder / "reference.npz")
        session = open_session(folder / "model.onnx", cpu)
        for number in range(3):
            feeds = {name: arrays[f"{name}.{number}"] for name in ("input_ids", "attention_mask")}
            (found,) = session.run(["embedding"], feeds)
            np.testing.assert_allclose(found, arrays[f"embedding.{number}"], atol=2e-4)  # export.tolerance
        shapes = [arrays[f"input_ids.{number}"].shape for number in range(3)]
        assert shapes[1][0] == 1
        assert max(shape[1] for shape in shapes) == package.settings["max_tokens"]
        assert (folder / "LICENSE-NOTICE").read_text().strip().endswith("apache-2.0")


def test_tokens_that_no_text_has_share_a_row(rebuilt, cpu):
    """The same ids go in; texts whose tokens are all kept come out as before."""
    recipe = rebuilt / "tiny.yaml"
    made = {}
    for name, section in (("whole", ""), ("fewer", "export: {drop_unused_tokens: true}\n")):
        recipe.write_text(recipe.read_text(encoding="utf-8") + section, encoding="utf-8")
        stages = build(recipe, rebuilt / "tiny", until="export").document["stages"]
        assert [stage["reused"] for stage in stages[:5]] == [True] * 5  # only the export is another one
        made[name] = open_package(rebuilt / ".store" / "export" / stages[-1]["key"])
    rows = {name: word_rows(package) for name, package in made.items()}
    assert rows["fewer"] < 0.75 * rows["whole"]
    assert made["fewer"].cost.parameters < made["whole"].cost.parameters
    tokenizers = {name: package_tokenizer(package) for name, package in made.items()}
    assert tokenizers["fewer"].get_vocab() == tokenizers["whole"].get_vocab()
    (data,) = (rebuilt / ".store" / "load").glob("*/data/train.jsonl")
    known = [example.passage for example in read_examples(data, Example)]
    embeddings = [
        embed(open_session(package.folder / "model.onnx", cpu), tokenizers[name], known)
        for name, package in made.items()
    ]
    np.testing.assert_allclose(*embeddings, atol=1e-6)


def word_rows(package: Package) -> int:
    tensors = onnx.load(package.folder / "model.onnx").graph.initializer
    (table,) = (tensor for tensor in tensors if tensor.name.endswith("word_embeddings.weight"))
    return int(table.dims[0])
