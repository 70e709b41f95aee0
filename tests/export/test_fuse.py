from collections import Counter
from pathlib import Path

import onnx


def test_every_attention_of_a_factored_build_is_fused(built: Path):
    graphs = [onnx.load(path) for path in (built / ".store" / "export").glob("*/model.onnx")]
    assert len(graphs) == 2  # the candidate and the dense baseline
    for graph in graphs:
        count = Counter(node.op_type for node in graph.graph.node)
        assert count["MultiHeadAttention"] == 2
        assert count["Softmax"] == 0
        # The mask is expanded once, not once a layer.
        biases = {node.input[5] for node in graph.graph.node if node.op_type == "MultiHeadAttention"}
        assert len(biases) == 1
