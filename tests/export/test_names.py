import onnx

from edgelr.runtime.layer_names import names_to_match


def test_products_and_tables_are_named_as_the_sites_of_the_plan(built):
    """And each factor of a layer, the shared one too, is found by a layer's name."""
    named = {}
    for path in (built / ".store" / "export").glob("*/model.onnx"):
        graph = onnx.load(path).graph
        constants = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
        nodes = [node for node in graph.node if set(node.input[:2]) & constants and node.op_type == "MatMul"]
        names = [node.name for node in nodes]
        assert len(set(names)) == len(names)
        named[len(nodes)] = {name for each in names for name in names_to_match(each)}
        assert "embeddings.word_embeddings" in {node.name for node in graph.node}
    layers = [
        f"encoder.layer.{at}.{name}" for at in range(2) for name in ("attention.self.query", "output.dense")
    ]
    for names in named.values():
        assert set(layers) <= names
    assert any(name.endswith(".down") for names in named.values() for name in names), "nothing was factored"


def test_a_tied_head_and_packed_projections_have_names(dense_translator):
    nodes = onnx.load(dense_translator.folder / "decoder.onnx").graph.node
    names = {node.name for node in nodes if node.op_type in {"MatMul", "Gather"}}
    assert {"lm_head", "decoder.layers.0.self_attn.q_proj+k_proj+v_proj", "decoder.layers.1.fc2"} <= names
    encoder = {node.name for node in onnx.load(dense_translator.folder / "encoder.onnx").graph.node}
    assert {"encoder.layers.0.fc1", "decoder.layers.1.encoder_attn.k_proj"} <= encoder
