"""A graph through Olive's or Optimum's quantization as it is by default; run by ``quantization.py``.

    PYTHON quantization_others.py olive|optimum dynamic|int4 SOURCE TARGET

Each needs an environment of its own: ``pip install olive-ai``, ``pip install optimum-onnx[onnxruntime]``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

PASSES = {
    "dynamic": "OnnxDynamicQuantization",
    "int4": "OnnxBlockWiseRtnQuantization",
}


def olive(kind: str, source: Path, target: Path) -> None:
    """One pass of Olive with nothing set."""
    from olive.workflows import run

    with tempfile.TemporaryDirectory() as folder:
        run(
            {
                "input_model": {"type": "ONNXModel", "model_path": str(source)},
                "passes": {"quantize": {"type": PASSES[kind]}},
                "output_dir": f"{folder}/out",
                "cache_dir": f"{folder}/cache",
                "log_severity_level": 3,
            }
        )
        (found,) = Path(folder, "out").rglob("*.onnx")
        for data in found.parent.glob("*.data"):
            raise SystemExit(f"weights are in a file of their own: {data.name}")
        shutil.copyfile(found, target)


def optimum(source: Path, target: Path) -> None:
    """The configuration of Optimum's documentation."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(source, Path(folder) / "model.onnx")
        (Path(folder) / "config.json").write_text(
            '{"model_type": "bert"}', encoding="utf-8"
        )  # it asks for one
        quantizer = ORTQuantizer(Path(folder) / "model.onnx")
        quantizer.quantize(save_dir=Path(folder) / "out", quantization_config=config)
        (found,) = Path(folder, "out").rglob("*.onnx")
        shutil.copyfile(found, target)


if __name__ == "__main__":
    tool, kind, source, target = sys.argv[1:]
    if tool == "olive":
        olive(kind, Path(source), Path(target))
    else:
        optimum(Path(source), Path(target))
