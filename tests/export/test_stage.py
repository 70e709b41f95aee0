import numpy as np

from edgelr.device.session import open_session
from edgelr.runtime.arrays import read_arrays
from edgelr.runtime.package import open_package


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
