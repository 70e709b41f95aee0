"""Narrow heads by identities: attention at full size is the same, and what is dropped is the error."""

import numpy as np
import pytest

from edgelr.lowrank.heads import NarrowHeads, Projection, narrow_query_key, narrow_value_output
from edgelr.lowrank.svd import FLOOR, decompose

HEADS, HEAD_SIZE, IN, OUT = 3, 4, 7, 9
CHANNELS = HEADS * HEAD_SIZE


def projection(out, in_, seed):
    random = np.random.default_rng(seed)
    return Projection(weight=random.normal(size=(out, in_)) / in_**0.5, bias=random.normal(size=out))


def inputs(tokens=60, seed=0):
    """Inputs whose mean is not zero, and whose scales differ."""
    random = np.random.default_rng(seed)
    return random.normal(size=(tokens, IN)) * np.geomspace(1, 0.2, IN) + random.normal(size=IN)


def apply(layer, x):
    return x @ layer.weight.T + layer.bias


def by_head(channels):
    """``[tokens, heads * size]`` to ``[heads, tokens, size]``"""
    return channels.reshape(len(channels), HEADS, -1).transpose(1, 0, 2)


def scores(query, key, x):
    return by_head(apply(query, x)) @ by_head(apply(key, x)).transpose(0, 2, 1)


def softmax(values):
    exp = np.exp(values - values.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


# --- query and key ----------------------------------------------------------------------------------


def centered_keys(key, x):
    keys = apply(key, x)
    return keys - keys.mean(axis=0)


def narrow_scores(query, key, x, size) -> NarrowHeads:
    queries, keys = apply(query, x), centered_keys(key, x)
    return narrow_query_key(query, key, queries.T @ queries, keys.T @ keys, HEADS, size)


def score_error(query, key, narrow, x):
    """Squared error of the scores, with the keys less their mean."""
    before = by_head(apply(query, x)) @ by_head(centered_keys(key, x)).transpose(0, 2, 1)
    after = by_head(apply(narrow.first, x)) @ by_head(centered_keys(narrow.second, x)).transpose(0, 2, 1)
    return float(np.square(before - after).sum())


@pytest.fixture
def pair():
    return projection(CHANNELS, IN, 1), projection(CHANNELS, IN, 2)


def test_full_size_gives_the_same_attention(pair):
    x = inputs()
    narrow = narrow_scores(*pair, x, HEAD_SIZE)
    before, after = scores(*pair, x), scores(narrow.first, narrow.second, x)
    shift = after - before
    np.testing.assert_allclose(shift - shift.mean(axis=-1, keepdims=True), 0, atol=1e-9)
    assert np.ptp(shift.mean(axis=-1)) > 0.1, "the bias of the keys is gone from the scores themselves"
    np.testing.assert_allclose(softmax(after), softmax(before), atol=1e-6)
    new = inputs(seed=5)
    np.testing.assert_allclose(
        softmax(scores(narrow.first, narrow.second, new)), softmax(scores(*pair, new)), atol=1e-6
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_error_of_the_scores_is_the_dropped_energy(pair, size):
    x = inputs()
    narrow = narrow_scores(*pair, x, size)
    assert narrow.energies.shape == (HEAD_SIZE,)
    assert narrow.first.weight.shape == narrow.second.weight.shape == (HEADS * size, IN)
    assert narrow.first.bias.shape == narrow.second.bias.shape == (HEADS * size,)
    assert score_error(*pair, narrow, x) == pytest.approx(narrow.energies[size:].sum(), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_channels_have_less_error(pair, seed):
    x = inputs(seed=seed)
    narrow = narrow_scores(*pair, x, 2)
    random = np.random.default_rng(seed)
    turns = [np.linalg.qr(random.normal(size=(HEAD_SIZE, HEAD_SIZE)))[0][:2] for _ in range(HEADS)]

    def turned(layer):
        blocks = layer.weight.reshape(HEADS, HEAD_SIZE, IN), layer.bias.reshape(HEADS, HEAD_SIZE)
        weight, bias = (
            np.concatenate([t @ b for t, b in zip(turns, block, strict=True)]) for block in blocks
        )
        return Projection(weight=weight, bias=bias)

    other = NarrowHeads(first=turned(pair[0]), second=turned(pair[1]), energies=narrow.energies)
    assert score_error(*pair, narrow, x) < score_error(*pair, other, x)


def test_the_bias_of_the_keys_does_not_matter(pair):
    query, key = pair
    x = inputs()
    other = Projection(weight=key.weight, bias=key.bias + 10)
    np.testing.assert_allclose(softmax(scores(query, other, x)), softmax(scores(query, key, x)), atol=1e-9)
    narrow, same = narrow_scores(query, key, x, 2), narrow_scores(query, other, x, 2)
    np.testing.assert_allclose(np.abs(same.first.weight), np.abs(narrow.first.weight), atol=1e-8)
    assert not same.second.bias.any()


def test_queries_and_keys_are_of_the_same_scale(pair):
    x = inputs()
    narrow = narrow_scores(*pair, x, HEAD_SIZE)
    energies = [
        np.square(values).sum(0) for values in (apply(narrow.first, x), centered_keys(narrow.second, x))
    ]
    np.testing.assert_allclose(energies[0], energies[1], rtol=1e-6)


@pytest.mark.parametrize("tokens", [1, 3])
def test_few_tokens_are_handled(pair, tokens):
    x = inputs(tokens)
    narrow = narrow_scores(*pair, x, HEAD_SIZE)
    assert np.isfinite(narrow.first.weight).all()
    assert np.isfinite(narrow.second.weight).all()
    np.testing.assert_allclose(
        softmax(scores(narrow.first, narrow.second, x)), softmax(scores(*pair, x)), atol=1e-6
    )


def test_heads_that_do_nothing_are_handled(pair):
    query, key = pair
    weight = key.weight.copy()
    weight[:HEAD_SIZE] = 0  # all tokens alike for the first head
    weight[-1] = weight[-2]  # the last one needs a channel less
    key = Projection(weight=weight, bias=key.bias)
    x = inputs()
    for size in (HEAD_SIZE, HEAD_SIZE - 1):
        narrow = narrow_scores(query, key, x, size)
        found = softmax(scores(narrow.first, narrow.second, x))
        np.testing.assert_allclose(found[[0, 2]], softmax(scores(query, key, x))[[0, 2]], atol=1e-6)
        np.testing.assert_allclose(narrow.first.weight[:size], 0, atol=1e-6)


# --- value and output -------------------------------------------------------------------------------


def contexts(value, x, seed=3):
    """What the output layer reads: each head's own mixture of the values."""
    random = np.random.default_rng(seed)
    attention = softmax(3 * random.normal(size=(HEADS, len(x), len(x))))
    mixed = attention @ by_head(apply(value, x))
    return mixed.transpose(1, 0, 2).reshape(len(x), -1)


def narrow_contexts(value, output, x, size, curvature=None) -> NarrowHeads:
    before = contexts(value, x)
    return narrow_value_output(value, output, before.T @ before, curvature, HEADS, size)


def output_error(value, output, narrow, x):
    before = apply(output, contexts(value, x))
    return float(np.square(before - apply(narrow.second, contexts(narrow.first, x))).sum())


@pytest.fixture
def chain():
    return projection(CHANNELS, IN, 1), projection(OUT, CHANNELS, 2)


@pytest.fixture
def curvature():
    gradients = np.random.default_rng(4).normal(size=(40, OUT)) * np.geomspace(1, 0.1, OUT)
    return gradients.T @ gradients


@pytest.mark.parametrize("curved", [False, True])
def test_full_size_gives_the_same_output(chain, curvature, curved):
    narrow = narrow_contexts(*chain, inputs(), HEAD_SIZE, curvature if curved else None)
    for x in (inputs(), inputs(seed=5)):
        before = apply(chain[1], contexts(chain[0], x))
        np.testing.assert_allclose(apply(narrow.second, contexts(narrow.first, x)), before, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_shapes_and_energies(chain, size):
    narrow = narrow_contexts(*chain, inputs(), size)
    assert narrow.first.weight.shape == (HEADS * size, IN)
    assert narrow.first.bias.shape == (HEADS * size,)
    assert narrow.second.weight.shape == (OUT, HEADS * size)
    np.testing.assert_array_equal(narrow.second.bias, chain[1].bias)
    assert narrow.energies.shape == (HEAD_SIZE,)
    assert np.all(np.diff(narrow.energies) <= 0)


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_error_of_one_head_is_the_dropped_energy(curvature, size, curved):
    # Several heads can make up for each other's errors; one head cannot.
    value, output = projection(HEAD_SIZE, IN, 1), projection(OUT, HEAD_SIZE, 2)
    x = inputs()
    before = apply(value, x)
    narrow = narrow_value_output(value, output, before.T @ before, curvature if curved else None, 1, size)
    lost = apply(output, before) - apply(narrow.second, apply(narrow.first, x))
    if curved:  # measured in the channels, where the floor of a tall matrix is: see svd.decompose
        lost = np.linalg.lstsq(output.weight, lost.T, rcond=None)[0].T
        metric = output.weight.T @ curvature @ output.weight
        metric += FLOOR * np.trace(metric) / HEAD_SIZE * np.eye(HEAD_SIZE)
        lost = lost @ np.linalg.cholesky(metric)
    dropped = narrow.energies[size:].sum()
    # The fit holds on to the weights as they are with a ten-thousandth, and gives up as much.
    assert dropped * (1 - 1e-9) <= np.square(lost).sum() <= dropped * 1.01


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_fitting_the_output_anew_is_never_worse(chain, size, seed):
    value, output = chain
    before = contexts(value, inputs(seed=seed))
    gram = before.T @ before
    lifted = gram + FLOOR**2 * np.trace(gram) / CHANNELS * np.eye(CHANNELS)
    channels = Projection(weight=np.eye(CHANNELS), bias=np.zeros(CHANNELS))
    narrow = narrow_value_output(channels, output, gram, None, HEADS, size)
    keep = narrow.first.weight  # which of the channels are kept

    def error(weight):
        change = output.weight - weight @ keep
        return float(np.trace(change @ lifted @ change.T))

    separate = []
    for head in range(HEADS):
        rows = slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)
        found = decompose(output.weight[:, rows], gram[rows, rows])
        own = keep[head * size : (head + 1) * size, rows]
        separate.append(found.up[:, :size] @ found.down[:size] @ own.T)
    for other in (output.weight @ keep.T, np.concatenate(separate, axis=1)):
        assert error(narrow.second.weight) < error(other)


@pytest.mark.parametrize("tokens", [1, 3])
def test_few_contexts_are_handled(chain, curvature, tokens):
    x = inputs(tokens)
    for size, curved in ((HEAD_SIZE, None), (HEAD_SIZE - 1, None), (HEAD_SIZE - 1, curvature)):
        narrow = narrow_contexts(*chain, x, size, curved)
        assert np.isfinite(narrow.second.weight).all()
        whole = np.square(apply(chain[1], contexts(chain[0], x)) - chain[1].bias).sum()
        assert output_error(*chain, narrow, x) <= 1e-3 * whole


def test_heads_that_hand_over_nothing_are_handled(chain):
    value, output = chain
    weight, bias = value.weight.copy(), value.bias.copy()
    weight[:HEAD_SIZE], bias[:HEAD_SIZE] = 0, 0
    value, x = Projection(weight=weight, bias=bias), inputs()
    narrow = narrow_contexts(value, output, x, HEAD_SIZE)
    assert output_error(value, output, narrow, x) < 1e-12
    nothing = Projection(weight=0 * weight, bias=0 * bias)
    narrow = narrow_contexts(nothing, output, x, 2)
    assert output_error(nothing, output, narrow, x) == 0
