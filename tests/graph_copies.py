"""Copies of a package's graphs with changed weights, to stand for quantized ones."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgelr.artifacts import Package

Change = Callable[[np.ndarray], np.ndarray]


def graphs_of(package: Package, folder: Path) -> Path:
    """Copies of the graphs, in a new folder."""
    folder.mkdir()
    for graph in package.graphs.values():
        shutil.copyfile(package.folder / graph.file, folder / graph.file)
    return folder


def change_weights(path: Path, change: Change) -> None:
    """Change the last matrix that a graph multiplies by: of a decoder its head."""
    proto = onnx.load(path)
    matrices = {each.name: each for each in proto.graph.initializer if len(each.dims) == 2}
    products = (node.input[1] for node in proto.graph.node if node.op_type == "MatMul")
    last = [matrices[name] for name in products if name in matrices][-1]
    array = change(numpy_helper.to_array(last).copy())
    last.CopyFrom(numpy_helper.from_array(array.astype(np.float32), last.name))
    onnx.save(proto, path)


def noisy(share: float) -> Change:
    """Noise that is a share of the weights' own deviation."""
    draw = np.random.default_rng(0)
    return lambda array: array + share * array.std() * draw.normal(size=array.shape)
