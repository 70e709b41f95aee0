from edgelr.quantize.learned import learn


def test_nothing_is_learned_without_data(make_tiny):
    tiny = make_tiny("dense")
    assert learn(tiny.path, ()) is None
    assert learn(tiny.path, tiny.feeds) is not None
