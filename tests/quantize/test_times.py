from edgelr.progress import Progress
from edgelr.quantize.calibration import data_of_package
from edgelr.quantize.fastest import Shape, read_scheme_times
from edgelr.quantize.graphs import prepare_graph
from edgelr.quantize.times import product_shapes, time_schemes
from edgelr.recipe.quantize import Quantize
from edgelr.runtime.package import model_path


def test_an_encoder_multiplies_texts_and_a_decoder_one_token(dense_translator, tmp_path):
    shapes, rows = {}, {}
    data = data_of_package(dense_translator)
    for role in ("encoder", "decoder"):
        (tmp_path / role).mkdir()
        graph = prepare_graph(model_path(dense_translator, role), tmp_path / role)
        shapes[role] = product_shapes(graph, data.feeds[role], one_row=role == "decoder")
        rows[role] = {shape.rows for shape in shapes[role].values()}
        assert set(shapes[role]) == {layer.name for layer in graph.layers if layer.kind == "product"}
    assert rows["decoder"] == {1}
    tokens = sorted(feed["input_ids"].size for feed in data.feeds["encoder"])
    assert rows["encoder"] <= set(tokens)
    query = next(shape for name, shape in shapes["encoder"].items() if "q_proj" in name)
    assert len(query.outs) == 3, "query, key and value read the same"


def test_each_shape_is_timed_with_each_scheme(dense_translator, cpu, tmp_path, monkeypatch):
    monkeypatch.setattr("edgelr.quantize.times.SECONDS", 0.3)
    schemes = ("int8-dynamic", "weight-int4", "fp32")
    data = data_of_package(dense_translator)
    times = time_schemes(
        dense_translator, Quantize(scheme="auto"), schemes, cpu, data, tmp_path, Progress(quiet=True)
    )
    assert read_scheme_times(tmp_path) == times
    assert times.schemes == schemes
    assert set(times.ms) == {shape for named in times.layers.values() for shape in named.values()}
    assert all(value > 0 for ms in times.ms.values() for value in ms.values())
    assert all(isinstance(shape, Shape) for shape in times.ms)
