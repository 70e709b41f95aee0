import pytest

from edgelr.runtime.layer_names import joined, matches, module_path, name_of_node, names_to_match, unwrapped


@pytest.mark.parametrize(
    ("scopes", "path"),
    [
        ("['', 'model.transformer', 'model.transformer.layer.0.query', 'linear']", "layer.0.query"),
        ("['', 'lm_head', 'linear_7']", "lm_head"),
        ("['linear']", ""),
        ("", ""),
        ("not a list", ""),
        ("[1, 2]", ""),
        ("{'a': 1}", ""),
    ],
)  # fmt: skip
def test_the_module_of_a_node(scopes, path):
    assert module_path(scopes) == path


def test_wrappers_are_left_out_of_paths_and_globs():
    assert unwrapped("model.model.decoder.layers.0.fc1") == "decoder.layers.0.fc1"
    assert unwrapped("transformer.encoder.*") == "encoder.*"
    assert unwrapped("model") == "model"


@pytest.mark.parametrize(
    ("name", "scopes", "constant", "found"),
    [
        ("node_linear", "['', 'model.encoder.fc1', 'linear']", "val_3", "encoder.fc1"),
        ("encoder.fc1.down", "", "val_3", "encoder.fc1.down"),
        ("/encoder/layer.0/query/MatMul_1", "", "onnx::MatMul_3", "encoder.layer.0.query"),
        ("/MatMul", "", "w", "MatMul"),
        ("", "", "encoder.fc1.weight", "encoder.fc1"),
    ],
)
def test_the_best_name_there_is(name, scopes, constant, found):
    assert name_of_node(name, scopes, constant) == found


@pytest.mark.parametrize(
    ("names", "name", "members"),
    [
        (("a.q", "a.k", "a.v"), "a.q+k+v", {"a.q", "a.k", "a.v"}),
        (("a.q.down", "a.k.down"), "a.q+k.down", {"a.q", "a.k"}),
        (("a.b.q", "a.c.q"), "a.b.q+a.c.q", {"a.b.q", "a.c.q"}),
        (("q", "k"), "q+k", {"q", "k"}),
        (("a.q.up",), "a.q.up", {"a.q", "a.q.up"}),
    ],
)
def test_layers_that_share_a_product_are_found_by_each_of_their_names(names, name, members):
    assert joined(names) == name
    assert members | {name} <= set(names_to_match(name))


def test_a_layer_that_is_called_again_has_the_same_names():
    assert names_to_match("a.fc.down:2") == ("a.fc.down:2", "a.fc.down", "a.fc")


NAMES = ("encoder.layer.0.query.down", "encoder.layer.0.query.up", "decoder.layer.0.q+k")


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("encoder.*", NAMES[0], True),
        ("transformer.encoder.*", NAMES[0], True),
        ("model.model.encoder.*", NAMES[0], True),
        ("encoder.layer.0.query", NAMES[0], True),
        ("*.down", NAMES[0], True),
        ("*.down", NAMES[1], False),
        ("*.k", NAMES[2], True),
        ("decoder.layer.0.k", NAMES[2], True),
        ("*.v", NAMES[2], False),
        ("query", NAMES[0], False),
    ],
)
def test_what_a_glob_means(glob, name, expected):
    assert matches(glob, name) is expected
