"""What XNNPACK, NNAPI and CoreML (MLProgram) take of ONNX Runtime 1.32.

The operators and their conditions are those of ONNX Runtime's documentation of the providers (for CoreML and
NNAPI also in the wheel, under ``onnxruntime/tools/mobile_helpers``) and of the checks in their sources. A
test holds the tables against the wheel's.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgelr.placement.rules import FLOATS, Needs, Rules

_ANY: tuple[str, ...] = ()
_QUANTIZED = ("uint8", "int8")
_SHAPES = (*FLOATS, "int32", "int64")
_IMAGES = (4,)
_SERIES = (3, 4)
_QUANTIZED_POOL = Needs(types=_QUANTIZED, constant=(1, 2, 3, 4), ranks=_IMAGES)


def _all(names: str, needs: Needs = Needs()) -> dict[str, Needs]:  # noqa: B008 - frozen
    return dict.fromkeys(names.split(), needs)


def _merged(tables: Iterable[dict[str, Needs]]) -> dict[str, Needs]:
    return {name: needs for table in tables for name, needs in table.items()}


_COREML = _merged(
    [
        _all(
            "Add Div Mul Sub Max Clip Ceil Cos Elu Erf Exp Gelu HardSigmoid LeakyRelu PRelu Reciprocal Relu"
        ),
        _all("Round Sigmoid Sin Softmax Softplus Sqrt Tanh com.microsoft:QuickGelu"),
        _all("ArgMax GroupNormalization InstanceNormalization LayerNormalization"),
        _all("ReduceMax ReduceMean ReduceSum", Needs(constant=(1,))),
        _all("MatMul"),
        _all("Gemm", Needs(constant=(1,))),
        _all("Conv com.microsoft:FusedConv", Needs(constant=(2,), ranks=_SERIES)),
        _all("ConvTranspose", Needs(constant=(1, 2), ranks=_SERIES)),
        _all("AveragePool GlobalAveragePool GlobalMaxPool MaxPool GridSample Resize", Needs(ranks=_IMAGES)),
        _all("DepthToSpace GatherND Identity Tile Transpose"),
        _all("Reshape Squeeze Unsqueeze Split", Needs(constant=(1,))),
        _all("Cast", Needs(types=_ANY)),
        _all("Concat Shape", Needs(types=_SHAPES)),
        _all("Slice", Needs(types=_SHAPES, constant=(1, 2, 3, 4))),
        _all("And", Needs(types=("bool",), typed=(0, 1))),
        _all("Pow", Needs(types=("float",), typed=(0, 1))),
        _all("Where", Needs(typed=(1, 2))),
    ]
)

_NNAPI_TYPES = ("float",)
_NNAPI = _merged(
    [
        _all(
            "Abs Add Clip Concat DepthToSpace Div Elu Exp Flatten Floor Identity", Needs(types=_NNAPI_TYPES)
        ),
        _all("LRN LeakyRelu Log Max Min Mul Neg PRelu Pow Reshape Sigmoid Sin", Needs(types=_NNAPI_TYPES)),
        _all("Slice Softmax Sqrt Sub Tanh Transpose BatchNormalization Relu", Needs(types=_NNAPI_TYPES)),
        _all("ReduceMean Squeeze Unsqueeze Split", Needs(types=_NNAPI_TYPES, constant=(1,))),
        _all("MatMul Gemm", Needs(types=_NNAPI_TYPES)),
        _all("Conv", Needs(types=_NNAPI_TYPES, constant=(1, 2), ranks=_IMAGES)),
        _all(
            "AveragePool GlobalAveragePool GlobalMaxPool MaxPool Resize",
            Needs(types=_NNAPI_TYPES, ranks=_IMAGES),
        ),
        _all("Pad", Needs(types=_NNAPI_TYPES, constant=(1, 2))),
        _all("Cast", Needs(types=("float", "int32"))),
        _all("Gather", Needs(types=("float", "int32", *_QUANTIZED), constant_unless_int32=(1,))),
        _all("DequantizeLinear", Needs(types=("uint8", "int8"), constant=(1, 2))),
        _all("QuantizeLinear", Needs(types=_NNAPI_TYPES, constant=(1, 2))),
        _all("QLinearConv", Needs(types=_QUANTIZED, constant=(1, 2, 3, 4, 5, 6, 7, 8), ranks=_IMAGES)),
        _all("QLinearMatMul", Needs(types=_QUANTIZED, constant=(1, 2, 4, 5, 6, 7))),
        _all("com.microsoft:QLinearAdd", Needs(types=_QUANTIZED, constant=(1, 2, 4, 5, 6, 7))),
        _all("com.microsoft:QLinearAveragePool", _QUANTIZED_POOL),
        _all("com.microsoft:QLinearSigmoid", Needs(types=_QUANTIZED, constant=(1, 2, 3, 4))),
    ]
)

_XNNPACK = _merged(
    [
        _all("MatMul", Needs(types=("float",), constant=(1,), ranks=(1, 2, 3))),
        _all("Gemm", Needs(types=("float",), constant=(1, 2), ranks=(2,))),
        _all("Conv", Needs(constant=(1, 2), ranks=_SERIES)),
        _all("ConvTranspose", Needs(constant=(1, 2), ranks=_IMAGES)),
        _all("AveragePool MaxPool Resize", Needs(ranks=_IMAGES)),
        _all("Softmax", Needs(last_axis=True)),
        _all("QLinearConv", Needs(types=_QUANTIZED, constant=(1, 2, 3, 4, 5, 6, 7, 8), ranks=_SERIES)),
        _all("com.microsoft:QLinearAveragePool", _QUANTIZED_POOL),
        _all("com.microsoft:QLinearSoftmax", Needs(types=("uint8",), constant=(1, 2, 3, 4), last_axis=True)),
    ]
)

ANALYZED = {
    rules.provider: rules
    for rules in (
        Rules(provider="CoreMLExecutionProvider", operators=_COREML, fixed_shapes=True, highest_rank=5),
        Rules(provider="NnapiExecutionProvider", operators=_NNAPI, fixed_shapes=True, highest_rank=4),
        # It runs on the CPU, next to kernels that take what it leaves: open sizes do not matter to it.
        Rules(provider="XnnpackExecutionProvider", operators=_XNNPACK, fixed_shapes=False, highest_rank=8),
    )
}
"""By provider: those that can be analyzed where they cannot run."""
