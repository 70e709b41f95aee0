"""Join each attention into ONNX Runtime's MultiHeadAttention, which survives factoring.

ONNX Runtime's own attention fusion wants three plain MatMuls on one input and finds none once q, k or v is
factored. Only attention is joined here: norms and activations are fused by the runtime when it loads the
graph, as the device's session options say.
"""

from __future__ import annotations

from typing import Any

from edgelr.export.cached import feed_cached_keys, fuse_cached_attention


def fuse_attention(model: Any) -> int:  # noqa: ANN401 - onnx_ir.Model
    """Fuse in place.

    Args:
        model: An ``onnx_ir.Model`` with plain attention.

    Returns:
        How many attentions were fused; 0 leaves a graph that is right, only slower.
    """
    import onnx_ir.passes.common as passes
    from onnxscript.optimizer import optimize
    from onnxscript.rewriter.ort_fusions import shape_optimization
    from onnxscript.rewriter.ort_fusions.mha import fuse_mha1, fuse_mha2
    from onnxscript.rewriter.ort_fusions.sdpa import fuse_sdpa
    from onnxscript.rewriter.ort_fusions.sdpa_via_mha import replace_sdpa_by_mha

    # First of all: once constants are folded, a factor that layers share is a copy for each of them.
    passes.CommonSubexpressionEliminationPass()(model)
    passes.ShapeInferencePass()(model)
    optimize(model)
    shape_optimization.rules.apply_to_model(model)
    optimize(model)
    _drop_zero_masks(model)
    _divide(model)
    fuse_cached_attention(model)
    fuse_sdpa(model, apply_shape_inference=True)
    fuse_mha1(model)
    fuse_mha2(model)
    replace_sdpa_by_mha(model)  # where queries and keys are rotated between their projections and the product
    _share_bias(model)
    feed_cached_keys(model)
    optimize(model)  # inlines what was half fused, drops what is unused
    return sum(node.op_type in {"MultiHeadAttention", "GroupQueryAttention"} for node in model.graph)


def _divide(model: Any) -> None:  # noqa: ANN401 - onnx_ir.Model
    """Divide where a graph multiplies by an inverse: the runtime knows a root mean square norm only so."""
    import onnx_ir

    for node in list(model.graph):
        if node.op_type != "Reciprocal" or node.outputs[0].is_graph_output():
            continue
        readers = [use.node for use in node.outputs[0].uses()]
        if len(readers) != 1 or readers[0].op_type != "Mul":
            continue
        (product,) = readers
        divided = next(value for value in product.inputs if value is not node.outputs[0])
        new = onnx_ir.node("Div", [divided, node.inputs[0]])
        new.outputs[0].type, new.outputs[0].shape = product.outputs[0].type, product.outputs[0].shape
        model.graph.insert_after(product, new)
        onnx_ir.convenience.replace_all_uses_with(
            product.outputs[0], new.outputs[0], replace_graph_outputs=True
        )
        model.graph.remove(product, safe=True)


def _drop_zero_masks(model: Any) -> None:  # noqa: ANN401 - onnx_ir.Model
    """Leave out masks that mask nothing: of a decoder that is given one token at a time."""
    from onnx_ir.convenience import replace_all_uses_with

    for node in list(model.graph):
        if node.op_type != "Add" or node.outputs[0].is_graph_output():
            continue
        for scores, mask in (tuple(node.inputs), tuple(reversed(node.inputs))):
            # Added to fewer axes, it would give them their number.
            if _is_zero_mask(mask) and scores.shape is not None and len(scores.shape) == 4:
                replace_all_uses_with(node.outputs[0], scores)
                model.graph.remove(node, safe=True)
                break


def _is_zero_mask(value: Any) -> bool:  # noqa: ANN401 - onnx_ir.Value
    from onnx_ir.convenience import get_const_tensor

    tensor = get_const_tensor(value)
    return tensor is not None and len(tensor.shape) == 4 and tensor.size == 1 and not tensor.numpy().any()


def _share_bias(model: Any) -> None:  # noqa: ANN401 - onnx_ir.Model
    """Expand the mask to ``[batch, 1, tokens, tokens]`` once, not once a layer."""
    shared: dict[Any, Any] = {}
    for node in model.graph:
        if node.op_type != "MultiHeadAttention" or len(node.inputs) < 6 or node.inputs[5] is None:
            continue
        expand = node.inputs[5].producer()
        if expand is not None and expand.op_type == "Expand":
            node.replace_input_with(5, shared.setdefault(expand.inputs[0], node.inputs[5]))
